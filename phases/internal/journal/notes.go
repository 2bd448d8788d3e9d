package journal

import (
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// What a run notes for people and for later commands: the keys of [Run.Notes]. A key once used
// keeps its meaning.
const (
	NoteRevision = "revision" // the highest one known before the run
	NoteKeptData = "keptData" // where the old data is after the run
	NoteKeptNoDB = "keptNoDB" // set if the old data has no db: no restore can take it back
	NoteKeptWAL  = "keptWAL"  // where its WAL is, if not in member/wal
	// NoteLeft is, on several nodes, the peer URLs of old members that could still serve as the old
	// cluster, separated by spaces.
	NoteLeft = "leftOut"
	// NoteOldURLs is, on several nodes, the peer URLs of the cluster being replaced, separated by
	// spaces: nothing may answer there meanwhile.
	NoteOldURLs  = "oldURLs"
	NoteSnapshot = "snapshot" // on several nodes: where this node has it, or will have it
)

// FromDirs are the flags that name a member's data, and its WAL if that is elsewhere.
func FromDirs(data, wal string) string {
	flags := "--from-data-dir " + data
	if wal != "" {
		flags += " --from-wal-dir " + wal
	}
	return flags
}

// LastRestore returns the newest completed restore on this node, and the URLs of one of its notes;
// empty if there is none, or the runs cannot be read.
func LastRestore(fsys node.Reader, note string) (run string, urls []string) {
	runs, err := List(fsys)
	if err != nil {
		return "", nil
	}
	for _, r := range runs {
		if r.State != nil && r.State.Outcome() == Completed && r.State.Run.Workflow == "restore" {
			run, urls = r.ID, strings.Fields(r.State.Run.Notes[note])
		}
	}
	return run, urls
}
