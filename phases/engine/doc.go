// Package engine plans workflows and carries them out: it journals each step before taking it, goes
// forward or rolls back, and reports progress as events. It knows no workflow. A [Node] holds the
// host, which can be written to: only operations do so, apart from restore, which takes in a
// snapshot, and prune.
package engine
