package journal

// What a run writes down for people, and for later commands: the keys of [Run.Notes]. A key once
// used keeps its meaning.
const (
	NoteRevision = "revision" // the highest known before the run
	NoteKeptData = "keptData" // where the old data is afterwards
	NoteKeptWAL  = "keptWAL"  // where its WAL is, if not in member/wal
	// NoteLeft is, on several nodes, the peer URLs of old members that could still serve as the old
	// cluster, with spaces between.
	NoteLeft = "leftOut"
	// NoteOldURLs is, on several nodes, the peer URLs of the cluster that is replaced, with spaces
	// between: nobody may answer there while it is.
	NoteOldURLs  = "oldURLs"
	NoteSnapshot = "snapshot" // several nodes: where this one has it, or will have
)

// FromDirs are the flags that name the data of a member, and its WAL where that is elsewhere.
func FromDirs(data, wal string) string {
	flags := "--from-data-dir " + data
	if wal != "" {
		flags += " --from-wal-dir " + wal
	}
	return flags
}
