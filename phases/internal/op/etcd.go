package op

import (
	"context"
	"errors"
)

// Access is how to reach etcd: client URLs, and host paths of the CA, the certificate and the key
// (empty for plain HTTP).
type Access struct {
	Endpoints []string `json:"endpoints"`
	CACert    string   `json:"caCert,omitempty"`
	Cert      string   `json:"cert,omitempty"`
	Key       string   `json:"key,omitempty"`
	// A person typed the paths: they are paths of this process.
	Typed bool `json:"typed,omitempty"`
	// Further URLs of the very same member, for when the first does not answer: its other
	// listeners. Endpoints may be different members; these never are.
	Others []string `json:"others,omitempty"`
	// Name is one that the member's certificate is for, for addresses that it is not for.
	Name string `json:"name,omitempty"`
}

// At is the same access to other members, at their URLs: what is known about one member's further
// URLs and certificate does not hold for them.
func (a Access) At(urls ...string) Access {
	a.Endpoints, a.Others, a.Name = urls, nil, ""
	return a
}

// Proof is the result of proving a snapshot.
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
	// MinRevision is a lower bound for the revisions of the restored cluster: the bump lifts the
	// cluster above it, and is at least MinBump.
	MinRevision int64 `json:"minRevision"`
	MinBump     int64 `json:"minBump"`
	// Compare asks for the HashKV of the staged data, to compare it between nodes.
	Compare bool `json:"compare,omitempty"`
}

// Staged is the result of staging.
type Staged struct {
	ClusterID uint64 `json:"clusterID"`
	MemberID  uint64 `json:"memberID"`
	Revision  int64  `json:"revision"` // the first revision of the new cluster is above it
	SHA256    string `json:"sha256"`
	SizeBytes int64  `json:"sizeBytes"`
	Keys      int64  `json:"keys"`             // live keys
	HashKV    uint32 `json:"hashKV,omitempty"` // of the staged data, if asked for
}

// Answer is what etcd reports about itself.
type Answer struct {
	ClusterID uint64
	MemberID  uint64
	Leader    uint64 // the member that leads, as this one sees it; 0: none
	Revision  int64
	Members   int
	Keys      int64

	// Of [Etcd.Started] alone: what it runs, of which minor its data are, to which version a
	// downgrade goes that has not ended (3.5 says neither), and how far it has come in raft's log.
	Version, Storage   string
	Downgrade          string
	Applied, Committed uint64
}

// Learner is how far a member without a vote has come.
type Learner struct {
	ClusterID   uint64
	Applied     uint64   // entries of the log
	Committed   uint64   // by the cluster
	SizeBytes   int64    // of its database
	LeaderBytes int64    // of the largest among the voting members
	Failing     []string // its own checks that fail, but for that it is a learner
}

// Saved is a snapshot that a running etcd sent.
type Saved struct {
	Trailer     string // hex: the SHA-256 of the data, as etcd sent it
	SizeBytes   int64
	EtcdVersion string
	ClusterID   uint64
	Endpoint    string // the URL of the etcd that sent it
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
	// Prove checks all of a snapshot; raw means that it has no SHA-256 trailer. For a bad one,
	// errors.As finds *etcd's bad-snapshot error.
	Prove(ctx context.Context, snapshot string, raw bool, progress func(done, total int64)) (Proof, error)
	// Stage makes dir/member (and walDir, unless empty) from a snapshot. dir's parent must
	// exist, dir must not.
	Stage(ctx context.Context, s Staging, dir, walDir string, progress func(done, total int64)) (Staged, error)
	// SnapshotDataDir makes a snapshot file from a stopped member's data, which
	// it leaves unchanged.
	SnapshotDataDir(ctx context.Context, from SnapshotDataDir,
		progress func(done, total int64)) (missing []string, err error)
	// Save streams a snapshot from the first endpoint that answers into a new file. The caller
	// syncs the file, and proves it against the trailer that etcd sent.
	Save(ctx context.Context, a Access, snapshot string, progress func(done, total int64)) (Saved, error)
	// Examine is Prove, but returns everything that a sidecar says about a snapshot.
	Examine(ctx context.Context, snapshot string, progress func(done, total int64)) (Contents, error)
	// Serving asks the first endpoint for a linearizable read, and returns what etcd reports. Keys
	// are counted at a revision; 0 is now.
	Serving(ctx context.Context, a Access, at int64) (Answer, error)
	// HashStaged proves a freshly staged database, and returns the hash of its keys.
	HashStaged(ctx context.Context, db string, progress func(done, total int64)) (uint32, error)
	// HashKV returns the first endpoint's own hash of its keys up to a revision, and the revision
	// that it is compacted to.
	HashKV(ctx context.Context, a Access, revision int64) (hash uint32, compacted int64, err error)
	// PeerServes returns nil when the member at the peer URL answers other members: by then it
	// has loaded its data.
	PeerServes(ctx context.Context, peer Access) error
	// Started returns what the member at the first endpoint reports about itself. A learner
	// answers little else.
	Started(ctx context.Context, a Access) (Answer, error)
	// Learner returns how far the member at own has come that has no vote yet. The error says why
	// it does not answer; what the voting members say is known all the same.
	Learner(ctx context.Context, own, voters Access) (Learner, error)
	// ClusterVersion is the minor by which the members work together, as the first endpoint tells
	// it.
	ClusterVersion(ctx context.Context, a Access) (string, error)
	// Downgrading is the version that a downgrade goes to which has not ended; empty: none.
	Downgrading(ctx context.Context, a Access) (string, error)
	// ValidateDowngrade asks whether etcd would let a downgrade to a version such as 3.6.0 begin.
	ValidateDowngrade(ctx context.Context, a Access, target string) error
	// EnableDowngrade begins one, if it is valid.
	EnableDowngrade(ctx context.Context, a Access, target string) error
	// CancelDowngrade takes one back. It is no error if there is none.
	CancelDowngrade(ctx context.Context, a Access) error
	// Members returns the members as a quorum knows them.
	Members(ctx context.Context, a Access) ([]Member, error)
	// AddLearner adds a member without a vote, and returns the id that etcd gives it. etcd refuses
	// a second member at a peer URL.
	AddLearner(ctx context.Context, a Access, peerURLs []string) (ID, error)
	// PromoteLearner gives a learner its vote. etcd refuses until it has 90 % of the leader's data.
	PromoteLearner(ctx context.Context, a Access, member ID) error
	// RemoveMember removes a member, voting or not. An unknown id is no error.
	RemoveMember(ctx context.Context, a Access, member ID) error
	// MoveLeader has the leader, which must be the member at the access, hand over to another
	// voter. It returns once the old leader follows the new one.
	MoveLeader(ctx context.Context, leader Access, to ID) error
	// SetPeerURLs changes at which URLs the other members reach one.
	SetPeerURLs(ctx context.Context, a Access, member ID, urls []string) error
	// Listening says whether anything accepts connections at a URL.
	Listening(ctx context.Context, url string) bool
	// Written counts the writes of clients in the write-ahead log of a member that this run gave
	// its data. That etcd may run meanwhile.
	Written(ctx context.Context, walDir string) (int, error)
	// DisarmAlarms returns how many alarms it disarmed.
	DisarmAlarms(ctx context.Context, a Access) (int, error)
}

// Count is how many objects of a resource there are.
type Count struct {
	Resource string `json:"resource"` // plural, with its group: deployments.apps
	Objects  int64  `json:"objects"`
}

// APIAccess is how to reach the node's own API server.
type APIAccess struct {
	// An administrator's; host path.
	Kubeconfig string `json:"kubeconfig"`
	// Https://address:port of the API server on this node; the kubeconfig often
	// names a load balancer.
	Server string `json:"server"`
	// Kubeconfigs are further ones, asked with in turn where the API server refuses the first. One
	// that is not there yet counts once it is: making it may be the way out.
	Kubeconfigs []string `json:"kubeconfigs,omitempty"`
	// Servers are further addresses of the same API server.
	Servers []string `json:"servers,omitempty"`
	// Name is one that the API server's certificate is for: it is rarely for every address.
	Name string `json:"name,omitempty"`
	// Unreadable are resources of which it is known that the API server cannot list them.
	Unreadable []string `json:"unreadable,omitempty"`
}

// APIServer is what operations need of the node's API server.
type APIServer interface {
	// Ready returns nil when the API server says so; it needs no rights. A [*DeniedError] means
	// that it answers, and tells nobody whether it is ready.
	Ready(ctx context.Context, a APIAccess) error
	// Counts counts the objects of every resource that can be listed, now or at a revision.
	// Resources that are not in etcd, and events, which may be in another etcd, cannot be
	// counted at a revision.
	Counts(ctx context.Context, a APIAccess, revision int64) ([]Count, error)
	// Revision is etcd's, as the API server reads it now.
	Revision(ctx context.Context, a APIAccess) (int64, error)
	// Nodes returns the names of the nodes that are registered.
	Nodes(ctx context.Context, a APIAccess) ([]string, error)
	// ReleaseLease gives up a leader lease for its holder. A missing lease is no error.
	ReleaseLease(ctx context.Context, a APIAccess, namespace, name string) error
	// DataDir returns etcd.local.dataDir of kubeadm's ClusterConfiguration; "" when there
	// is no such ConfigMap.
	DataDir(ctx context.Context, a APIAccess) (string, error)
	// SetDataDir changes that one line.
	SetDataDir(ctx context.Context, a APIAccess, dataDir string) error
	// ImageTag returns etcd.local.imageTag of kubeadm's ClusterConfiguration, empty where it is not
	// set; local is false where there is no such ConfigMap, or kubeadm does not run etcd.
	ImageTag(ctx context.Context, a APIAccess) (tag string, local bool, err error)
	// SetImageTag changes that one line, or adds it.
	SetImageTag(ctx context.Context, a APIAccess, tag string) error
}

// finalError ends a wait at once: more time would not help.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

func asFinal(err error, target **finalError) bool { return errors.As(err, target) }
