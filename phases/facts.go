package phases

import (
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Facts are what was observed on the node and in the cluster just now. Phases read them; nothing changes them.
type Facts struct {
	Run  string // the id that the run has, or would have
	Now  time.Time
	Node string // as etcd's --name tells it

	ManifestDir   string // the kubelet's static-pod directory
	StaticPodURL  string // where the kubelet gets static pods besides; empty as a rule
	KubeletActive bool
	KubeletError  error
	Addresses     []string       // of this node
	Clients       []string       // addresses that are connected to etcd's client port, for a restore on several nodes
	Manifests     []ManifestFile // what the kubelet runs from ManifestDir
	Etcd          *EtcdPod       // nil when no manifest runs etcd
	OpenRun       string         // the id of the run that must be resumed or rolled back; it may have taken manifests out
	API           op.APIAccess   // Kubeconfig is empty when there is none

	Containers    []node.Container
	RuntimeError  error // why the container runtime could not be asked
	Live          *Live // nil when etcd does not answer; LiveError says why
	LiveError     error
	Stopped       *Stopped // the data directory's own account; nil when it could not be read; StoppedError says why
	StoppedError  error
	Data          DataFacts
	Snapshot      *SnapshotFacts
	Backup        *BackupFacts
	KnownRevision int64             // the highest revision that anything readable tells of; 0 when nothing does
	Fingerprints  map[string]string // SHA-256 by host path
	Encryption    Encryption
	Renewal       *RenewalFacts // of certs renew and certs generate-csr
	Request       *RequestFacts
	Init          *InitFacts
	APIServer     *APIServerFacts // of apiserver set
	Join          *JoinFacts

	notes map[string]string // for the run's journal
}

// ManifestFile is one file of the static-pod directory that the kubelet would run.
type ManifestFile struct {
	Path     string
	Data     []byte
	Attr     node.Attr
	Link     bool                // the name is a symbolic link
	Manifest *manifests.Manifest // nil when it is no pod that can be read; Error says why
	Error    error
}

// EtcdPod is what etcd's manifest says.
type EtcdPod struct {
	File       ManifestFile
	Container  string
	Name       string // --name
	Image      string
	DataVolume string // the name of the volume that holds the data directory
	DataPath   string // as the manifest names it on the host; other pods may mount it by that name, too
	DataDir    string // on the host, links resolved
	WALDir     string // on the host, links resolved; empty when the WAL is in DataDir/member/wal
	PeerURLs   []string
	ClientURLs []string // that it advertises
	TrustedCA  string   // host path
	Access     op.Access
	Peer       op.Access // its own peer port, with a certificate that peers accept
}

// Live is what a serving etcd says.
type Live struct {
	ClusterID, MemberID   uint64
	Revision              int64
	Version               string
	StorageVersion        string
	SizeBytes, InUseBytes int64
	QuotaBytes            int64  // 0 where etcd does not tell
	Leader                uint64 // member id
	Learner               bool
	Alarms                []string
	Members               []Member
	APIServers            []string // addresses below /registry/masterleases/
	Nodes                 []string // names below /registry/minions/
}

// nodesBefore are the names of the nodes that were registered; nothing is known of them when etcd does not serve.
func (f *Facts) nodesBefore() []string {
	if f.Live == nil {
		return nil
	}
	return f.Live.Nodes
}

// Stopped is what the data of an etcd that is not serving says, its WAL included.
type Stopped struct {
	ClusterID      uint64
	MemberID       uint64 // its own
	Revision       int64
	StorageVersion string
	Members        []Member
	APIServers     []string // addresses below /registry/masterleases/
}

// Member is one member of an etcd cluster.
type Member = op.Member

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
	Members        []Member
	Prefixes       []string // of encrypted values
	APIServers     []string
	Resources      []op.Count
	Sidecar        *Sidecar
}

// Encryption is what the API server's encryption configuration can decrypt.
type Encryption struct {
	File    string // empty: the API server has none
	Missing []string
	Error   error
}
