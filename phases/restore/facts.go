package restore

import (
	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

type (
	phase = engine.Phase[*Facts]
	// workflow puts a snapshot, or the data of a stopped member, in the place of what etcd has.
	workflow = engine.Workflow[*observe.Node, *Facts]
)

// Facts are what a restore depends on.
type Facts struct {
	*observe.Facts
	// Addresses that are connected to etcd's client port, for a restore on several nodes.
	Clients []string
	// The data directory's own account; nil when it could not be read; StoppedError says why.
	Stopped       *observe.Stopped
	StoppedError  error
	Data          DataFacts
	Snapshot      *SnapshotFacts
	KnownRevision int64 // the highest revision that anything readable tells of; 0 when nothing does
	Encryption    Encryption
}

// nodesBefore are the names of the nodes that were registered; nothing is known of them when
// etcd does not serve.
func (f *Facts) nodesBefore() []string {
	if f.Live == nil {
		return nil
	}
	return f.Live.Nodes
}

// DataFacts describe the directories that are exchanged.
type DataFacts struct {
	DirExists    bool
	MemberExists bool
	MemberOdd    string    // why member cannot be exchanged: a mount point, a symbolic link
	Attr         node.Attr // for what is staged
	StageIn      string    // an existing or planned directory on the same mount as the data
	WALStageIn   string
	WALOdd       string
	SizeBytes    int64  // of the present database
	Free         uint64 // bytes, where new data is staged
	RunFree      uint64 // bytes, where the run's folder is
}

// SnapshotFacts describe what is to be restored.
type SnapshotFacts struct {
	op.Proof
	Path           string
	StorageVersion string
	Members        []observe.Member
	Prefixes       []string // of encrypted values
	APIServers     []string
	Resources      []op.Count
	Sidecar        *backup.Sidecar
}

// Encryption is what the API server's encryption configuration can decrypt.
type Encryption struct {
	File    string // empty: the API server has none
	Missing []string
	Error   error
}
