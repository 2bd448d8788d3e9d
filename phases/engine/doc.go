// Package engine plans workflows and carries them out: it writes the journal ahead, goes forward
// and back, and tells what happens by events. It knows no workflow. With the packages below
// phases/internal it is the only one that holds a node on which something can be written.
package engine
