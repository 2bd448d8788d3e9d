package restore

import (
	"cmp"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

type (
	phase = engine.Phase[*Facts]
	// workflow replaces etcd's data with a snapshot, or with the data of a stopped member.
	workflow = engine.Workflow[*observe.Node, *Facts]
)

// Facts are what a restore depends on.
type Facts struct {
	*observe.Facts
	// Addresses connected to etcd's client port, for a restore on several nodes.
	Clients []string
	// Peer URLs of the snapshot's other members that answer, for a restore of this node alone.
	Answering []string
	// Addresses of API servers elsewhere, known to use this etcd, that accept connections now.
	Reached []string
	// What the data directory says; nil when it could not be read, and StoppedError says why.
	Stopped       *observe.Stopped
	StoppedError  error
	LogAlone      *etcd.LogAlone // all that is left of the data; nil: that is not so
	Data          DataFacts
	Snapshot      *SnapshotFacts
	KnownRevision int64    // the highest revision found anywhere; 0: none was found
	KnownFrom     string   // what shows it
	Uncounted     []string // accounts of revisions that cannot be believed
	Encryption    Encryption
	EtcdServes    bool // with a quorum
	APIReady      bool // of this node's API server
	// Why no etcd runs here any more, where it is restored alone; nil: not known.
	Departed *observe.Departure
	Written  Written
}

// nodesBefore are the names of the registered nodes. They are unknown while etcd does not serve.
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
	Attr         node.Attr // for the staged data
	StageIn      string    // an existing or planned directory on the same mount as the data
	WALStageIn   string
	WALOdd       string
	DirOdd       string // why --data-dir cannot be the new data directory
	WALMount     bool   // the WAL's directory is itself a mount point: its contents are exchanged
	SizeBytes    int64  // of the current database
	Free         uint64 // bytes, where the new data is staged
	RunFree      uint64 // bytes, where the run's folder is
}

// SnapshotFacts describe the data to restore.
type SnapshotFacts struct {
	op.Proof
	Path           string
	Sealed         bool   `json:",omitempty"` // Path is a sealed backup, and the snapshot is inside
	Identity       string `json:",omitempty"` // the file of the secret key that opens it; host path
	StorageVersion string
	Members        []observe.Member
	Stored         []snapfile.Stored // how the objects of each resource are stored
	APIServers     []string
	DeadAPIServers []string // registered without a lease: nothing removes them
	Resources      []op.Count
	// The revision of a data directory's db, if the log may lead on from there, up to that of the
	// proof. Nothing is known of Resources then, and 0 otherwise.
	AtLeast int64 `json:",omitempty"`
	Sidecar *backup.Sidecar
	// The cluster that a data directory is of; 0: at most the sidecar tells.
	Cluster   op.ID     `json:",omitempty"`
	Caveats   []string  // what a data directory may lack
	Copied    string    `json:",omitempty"` // what it may lack because it may be a copy
	ModTime   time.Time `json:",omitzero"`  // of the file
	CAs       []string  // fingerprints of the cluster's CAs that stand in it
	TokenKeys []string  // ids of keys that signed tokens in it
	// NoAdmins says that it has rules of RBAC, and not the one that gives kubeadm's admin.conf its
	// rights.
	NoAdmins bool `json:",omitempty"`
}

// counted says whether Resources are known: that there are none is something else.
func (s *SnapshotFacts) counted() bool { return s.AtLeast == 0 }

// surely is the revision up to which the data goes for certain.
func (s *SnapshotFacts) surely() int64 { return cmp.Or(s.AtLeast, s.Proof.Revision) }

// Encryption is what the API server's encryption configuration can read of the snapshot.
type Encryption = observe.Encryption
