package op

import (
	"context"
	"errors"
)

// Access is how etcd is reached: client URLs, and host paths of the certificate authority,
// certificate and key (empty for plain HTTP).
type Access struct {
	Endpoints []string `json:"endpoints"`
	CACert    string   `json:"caCert,omitempty"`
	Cert      string   `json:"cert,omitempty"`
	Key       string   `json:"key,omitempty"`
	// The paths were typed by a person: they are paths of this process.
	Typed bool `json:"typed,omitempty"`
}

// Proof is what proving a snapshot found out.
type Proof struct {
	SHA256    string `json:"sha256,omitempty"` // hex, of the whole file
	SizeBytes int64  `json:"sizeBytes"`
	Revision  int64  `json:"revision"`
	Keys      int64  `json:"keys"` // live keys
}

// Staging is what new data is made from. Paths are host paths.
type Staging struct {
	Snapshot string `json:"snapshot"`
	Proof    Proof  `json:"proof"`
	// Holds the proof of a snapshot that the run itself makes.
	ProofFile      string   `json:"proofFile,omitempty"`
	SkipHashCheck  bool     `json:"skipHashCheck,omitempty"`
	Name           string   `json:"name"`
	PeerURLs       []string `json:"peerURLs"`
	InitialCluster string   `json:"initialCluster"`
	Token          string   `json:"token"`
	// MinRevision is below every revision that the restored cluster may give out: the bump is
	// chosen so that it starts above, and is never smaller than MinBump.
	MinRevision int64 `json:"minRevision"`
	MinBump     int64 `json:"minBump"`
	// Compare has the HashKV of the staged data computed, to be compared with that of other nodes.
	Compare bool `json:"compare,omitempty"`
}

// Staged is what staging made.
type Staged struct {
	ClusterID uint64 `json:"clusterID"`
	MemberID  uint64 `json:"memberID"`
	Revision  int64  `json:"revision"` // the first revision of the new cluster is above it
	SHA256    string `json:"sha256"`
	SizeBytes int64  `json:"sizeBytes"`
	Keys      int64  `json:"keys"`             // live keys
	HashKV    uint32 `json:"hashKV,omitempty"` // of the staged data, where it was asked for
}

// Answer is what an etcd that answers says of itself.
type Answer struct {
	ClusterID uint64
	MemberID  uint64
	Revision  int64
	Members   int
	Keys      int64
}

// Saved is a snapshot that a running etcd sent.
type Saved struct {
	Trailer     string // hex: the SHA-256 of the data, as etcd sent it
	SizeBytes   int64
	EtcdVersion string
	ClusterID   uint64
}

// Contents is what a proven snapshot holds.
type Contents struct {
	Proof
	Trailer         string // hex: the SHA-256 of the data, as it stands in the file
	CompactRevision int64
	HashKV          uint32
	StorageVersion  string
	Members         []Member
	HashSteps       [][]byte
}

// Etcd is what operations need of etcd, online and offline. Paths are host paths.
type Etcd interface {
	// Prove checks all of a snapshot; raw says that it has no SHA-256 trailer. A bad one is an
	// error that answers errors.As for *etcd's bad-snapshot error.
	Prove(ctx context.Context, snapshot string, raw bool, progress func(done, total int64)) (Proof, error)
	// Stage makes dir/member (and walDir, where it is not empty) new from a snapshot. dir's parent
	// is there, dir is not.
	Stage(ctx context.Context, s Staging, dir, walDir string, progress func(done, total int64)) (Staged, error)
	// SnapshotDataDir makes a snapshot file of a stopped member's data and changes
	// nothing of the data.
	SnapshotDataDir(ctx context.Context, dir, walDir, snapshot string,
		progress func(done, total int64)) (missing []string, err error)
	// Save streams a snapshot of the first endpoint that answers into a new file. Whoever keeps it
	// proves it, against the trailer that etcd sent, and syncs it.
	Save(ctx context.Context, a Access, snapshot string, progress func(done, total int64)) (Saved, error)
	// Examine is Prove that tells all that a sidecar says of a snapshot.
	Examine(ctx context.Context, snapshot string, progress func(done, total int64)) (Contents, error)
	// Serving returns the etcd that answers a linearizable read at the first endpoint. Its keys are
	// counted as of a revision, 0 for now.
	Serving(ctx context.Context, a Access, at int64) (Answer, error)
	// HashStaged proves a database that was just staged, and returns the hash of its keys.
	HashStaged(ctx context.Context, db string, progress func(done, total int64)) (uint32, error)
	// HashKV returns the hash of the keys of the first endpoint's own member up to a revision, and
	// the revision that the member is compacted to.
	HashKV(ctx context.Context, a Access, revision int64) (hash uint32, compacted int64, err error)
	// PeerServes returns nil when the member behind the peer URL answers other members: it has
	// loaded its data by then.
	PeerServes(ctx context.Context, peer Access) error
	// Started returns what the member behind the first endpoint says of itself. A learner answers
	// that, and hardly anything else.
	Started(ctx context.Context, a Access) (Answer, error)
	// Members returns the members as a quorum knows them.
	Members(ctx context.Context, a Access) ([]Member, error)
	// AddLearner adds a member that does not vote, and returns the id that etcd gives it. etcd
	// refuses a second one at a peer URL.
	AddLearner(ctx context.Context, a Access, peerURLs []string) (ID, error)
	// PromoteLearner lets it vote. etcd refuses until it has 90 % of what the leader has.
	PromoteLearner(ctx context.Context, a Access, member ID) error
	// RemoveMember takes a member out of the cluster, whether it votes or not, and is content when
	// there is none with that id.
	RemoveMember(ctx context.Context, a Access, member ID) error
	// Listening says whether anything accepts connections at a URL.
	Listening(ctx context.Context, url string) bool
	// DisarmAlarms returns how many alarms it disarmed.
	DisarmAlarms(ctx context.Context, a Access) (int, error)
}

// Count is how many objects of a resource there are.
type Count struct {
	Resource string `json:"resource"` // plural, with its group: deployments.apps
	Objects  int64  `json:"objects"`
}

// APIAccess is how the node's own API server is reached.
type APIAccess struct {
	// An administrator's; host path.
	Kubeconfig string `json:"kubeconfig"`
	// Https://address:port of the API server on this node; the kubeconfig often
	// names a load balancer.
	Server string `json:"server"`
}

// APIServer is what operations need of the node's API server.
type APIServer interface {
	Ready(ctx context.Context, a APIAccess) error
	// Counts lists every resource that can be listed, with how many objects there are: now, or
	// with a revision as of it. What is not in etcd, and events, which may be in another one,
	// have no revision there.
	Counts(ctx context.Context, a APIAccess, revision int64) ([]Count, error)
	// Revision is that of etcd, as the API server reads it now.
	Revision(ctx context.Context, a APIAccess) (int64, error)
	// Nodes returns the names of the nodes that are registered.
	Nodes(ctx context.Context, a APIAccess) ([]string, error)
	// ReleaseLease gives a leader lease up for its holder. A lease that is not there is no error.
	ReleaseLease(ctx context.Context, a APIAccess, namespace, name string) error
	// DataDir returns etcd.local.dataDir of kubeadm's ClusterConfiguration; "" when there
	// is no such ConfigMap.
	DataDir(ctx context.Context, a APIAccess) (string, error)
	// SetDataDir changes that one line.
	SetDataDir(ctx context.Context, a APIAccess, dataDir string) error
}

// finalError ends a wait at once: more time would not help.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

func asFinal(err error, target **finalError) bool { return errors.As(err, target) }
