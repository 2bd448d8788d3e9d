package observe

import (
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Facts are what was observed on the node and in the cluster just now. Phases read them; nothing
// changes them.
type Facts struct {
	Run  string // the run's id, or the id that it would have
	Now  time.Time
	Node string // etcd's --name; without etcd, the open run's name for it, or the host's

	ManifestDir    string // the kubelet's static-pod directory
	StaticPodURL   string // a URL that the kubelet also gets static pods from; normally empty
	KubeletActive  bool
	KubeletError   error
	Addresses      []string       // of this node
	Manifests      []ManifestFile // what the kubelet runs from ManifestDir
	ManifestsError error          // why ManifestDir could not be read
	Etcd           *EtcdPod       // nil when no manifest runs etcd, or EtcdError says what is wrong
	EtcdError      error          // why etcd's manifest cannot be relied on
	// OpenRun is the id of the run that must be resumed or rolled back; it may have taken manifests
	// out.
	OpenRun string
	// Why this is no control-plane node; empty: it is one.
	Elsewhere string
	API       op.APIAccess // Kubeconfig is empty when there is none
	// Kubeconfigs are the administrators' that there are, the best one first.
	Kubeconfigs []Kubeconfig

	Containers   []node.Container
	RuntimeError error // why the container runtime could not be asked
	Live         *Live // nil when etcd does not answer; LiveError says why
	LiveError    error
	DataInUse    bool              // an etcd runs on the data, although it does not answer
	Fingerprints map[string]string // SHA-256 by host path
	// Why there is none of some files, though they are there.
	FingerprintsError error

	// What would keep a pod that is stopped now from starting again, and what could not be found
	// out.
	Obstacles, Doubts []Obstacle
	// Certificates that would keep etcd and the API server from working together again.
	Certificates []Obstacle

	Notes map[string]string // for the run's journal
}

// NodeName is the node's name for the journal.
func (f *Facts) NodeName() string { return f.Node }

// RunNotes are the notes for the journal.
func (f *Facts) RunNotes() map[string]string { return f.Notes }

// ManifestFile is a file in the static-pod directory that the kubelet would run.
type ManifestFile struct {
	Path     string
	Data     []byte
	Attr     node.Attr
	Link     bool                // the file is a symbolic link
	Manifest *manifests.Manifest // nil when it cannot be read as a pod; Error says why
	Error    error

	node string // what the kubelet appends to the pod's name, to tell pods apart; empty: not known
	// What etcd's configuration file says, where one overrides flags and environment; nil: none.
	config      map[string]any
	configFile  string // its host path, for messages
	configError error  // why it could not be read
}

// EtcdPod is what etcd's manifest says.
type EtcdPod struct {
	File       ManifestFile
	Container  string
	Name       string // --name
	Image      string
	DataVolume string // the name of the volume that holds the data directory
	// The data directory as the manifest names it on the host; other pods may mount it by that
	// name, too.
	DataPath   string
	DataDir    string // on the host, links resolved
	WALDir     string // on the host, links resolved; empty when the WAL is in DataDir/member/wal
	PeerURLs   []string
	ClientURLs []string // the URLs that it advertises
	TrustedCA  string   // host path
	Access     op.Access
	Peer       op.Access // its own peer port, with a certificate that peers accept

	imageTold string // the version that the runtime tells of the image; often empty
	runsAs    string // what the running etcd or its binary tells, where nothing else does
}

// Live is what a serving etcd says.
type Live struct {
	ClusterID, MemberID   uint64
	Revision              int64
	Version               string
	StorageVersion        string
	SizeBytes, InUseBytes int64
	QuotaBytes            int64  // 0 when etcd does not say
	Leader                uint64 // member id
	Learner               bool
	Committed, Applied    uint64 // indexes in the log: what it knows of, and what is in its db
	Downgrade             string // the version of a downgrade that was enabled and has not ended
	Alarms                []string
	Members               []Member
	// Addresses below /registry/masterleases/: of API servers that keep their entry alive, and
	// those of no living one.
	APIServers     []string
	DeadAPIServers []DeadAPIServer
	Nodes          []string // names below /registry/minions/
}

// DeadAPIServer is an entry below /registry/masterleases/ that no API server keeps alive.
type DeadAPIServer struct {
	Address string
	For     time.Duration // until which it stays, from when it was written; 0: for ever
}

// Stopped is what the data of an etcd that is not serving says, including its WAL.
type Stopped struct {
	ClusterID      uint64
	MemberID       uint64 // the member's own
	Revision       int64
	StorageVersion string
	Members        []Member
	APIServers     []string // addresses below /registry/masterleases/
}

// Member is one member of an etcd cluster.
type Member = op.Member
