package phases

import "time"

// BackupOptions are what a person may ask of `backup`. Exactly one of File and Dir is set. Paths are host paths below the root where they are given as flags' values; File is a path of this process.
type BackupOptions struct {
	File        string // of the snapshot; FILE.json is written beside it
	Dir         string // a directory; the name is etcd-<node>-<UTC>-r<revision>.db
	Keep        int    // with Dir: how many of this node's backups are kept; 0: all
	FromDataDir string // the data of a member that is stopped, instead of a running etcd
	FromWALDir  string
}

// BackupEntry is one backup as `backups` lists it.
type BackupEntry struct {
	Sidecar
	Whole bool   `json:"whole"`          // the file has the length that the sidecar says
	Note  string `json:"note,omitempty"` // what is odd: no sidecar, another length
}

// Verdict is what `verify` says of a file.
type Verdict struct {
	Path   string `json:"path"`
	OK     bool   `json:"ok"`
	Check  string `json:"check,omitempty"`  // the check that failed: file, length, trailer, meta, structure, keys, sidecar
	Offset int64  `json:"offset,omitempty"` // where, in bytes
	Reason string `json:"reason,omitempty"`

	SHA256          string           `json:"sha256,omitempty"`
	SizeBytes       int64            `json:"sizeBytes,omitempty"`
	Revision        int64            `json:"revision,omitempty"`
	CompactRevision int64            `json:"compactRevision,omitempty"`
	HashKV          uint32           `json:"hashKV,omitempty"`
	Keys            int64            `json:"keys,omitempty"`
	StorageVersion  string           `json:"storageVersion,omitempty"`
	Members         []Member         `json:"members,omitempty"`
	Resources       map[string]int64 `json:"resources,omitempty"`
	Quick           bool             `json:"quick,omitempty"`
	Seconds         float64          `json:"seconds"`
}

// PrunePlan is what `prune` would delete.
type PrunePlan struct {
	Items []PruneItem `json:"items"`
	Kept  []PruneItem `json:"kept"` // with the reason why
	Bytes int64       `json:"bytes"`
}

// PruneItem is one directory or file that earlier runs left.
type PruneItem struct {
	Path   string    `json:"path"`
	Run    string    `json:"run,omitempty"`
	Bytes  int64     `json:"bytes"`
	Time   time.Time `json:"time"`
	Reason string    `json:"reason,omitempty"`
}

// Status is what `status` shows. The JSON names are stable.
type Status struct {
	Node         string           `json:"node"`
	ManifestDir  string           `json:"manifestDir"`
	Manifests    []ManifestStatus `json:"manifests"`
	Kubelet      string           `json:"kubelet"` // running, stopped, or why it is not known
	Runtime      string           `json:"runtime"` // ok, or why it cannot be asked
	Member       *MemberStatus    `json:"member,omitempty"`
	Problem      string           `json:"problem,omitempty"` // why etcd cannot be asked
	Members      []Member         `json:"members"`
	Alarms       []string         `json:"alarms"`
	Certificates []CertStatus     `json:"certificates"`
	NewestBackup *BackupEntry     `json:"newestBackup,omitempty"`
	OpenRun      *RunSummary      `json:"openRun,omitempty"`
	Warnings     []string         `json:"warnings"` // what is wrong: exit code 6
	Next         string           `json:"next"`     // the next thing to do
}

// ManifestStatus is one file of the static-pod directory with the containers that run from it.
type ManifestStatus struct {
	Path       string            `json:"path"`
	Pod        string            `json:"pod,omitempty"`
	Image      string            `json:"image,omitempty"`
	Containers []ContainerStatus `json:"containers"`
	Problem    string            `json:"problem,omitempty"`
}

// ContainerStatus is the newest container of a name.
type ContainerStatus struct {
	Name    string    `json:"name"`
	State   string    `json:"state"`
	Attempt uint32    `json:"attempt"`
	Since   time.Time `json:"since"`
}

// MemberStatus is the local etcd.
type MemberStatus struct {
	Endpoint       string `json:"endpoint"`
	ID             string `json:"id"`        // hex
	ClusterID      string `json:"clusterID"` // hex
	Name           string `json:"name"`
	Version        string `json:"version"`
	StorageVersion string `json:"storageVersion,omitempty"`
	Leader         bool   `json:"leader"`
	Learner        bool   `json:"learner"`
	Revision       int64  `json:"revision"`
	SizeBytes      int64  `json:"sizeBytes"`
	InUseBytes     int64  `json:"inUseBytes"`
	QuotaBytes     int64  `json:"quotaBytes,omitempty"`
}

// CertStatus is one certificate file.
type CertStatus struct {
	Path     string    `json:"path"`
	CN       string    `json:"cn"`
	NotAfter time.Time `json:"notAfter"`
	DaysLeft int       `json:"daysLeft"`
	Problem  string    `json:"problem,omitempty"`
}
