// Package engine plans workflows and carries them out: it writes the journal ahead, goes forward
// and back, and tells what happens by events. It knows no workflow. A [Node] holds the host, on
// which something can be written: operations do, and nobody else but restore, which takes in a
// snapshot, and prune.
package engine
