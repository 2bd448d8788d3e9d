package phases

import "time"

// Sidecar is the JSON file beside a backup, FILE.json, mode 0600. The names are stable.
type Sidecar struct {
	Path            string            `json:"path"`
	SHA256          string            `json:"sha256"` // of the data, as the trailer has it
	Revision        int64             `json:"revision"`
	CompactRevision int64             `json:"compactRevision"`
	HashKV          uint32            `json:"hashKV"` // at revision, as etcd's HashKV answers it
	Keys            int64             `json:"keys"`   // live ones
	SizeBytes       int64             `json:"sizeBytes"`
	EtcdVersion     string            `json:"etcdVersion"`
	StorageVersion  string            `json:"storageVersion"`
	ClusterID       string            `json:"clusterID"` // hex
	Members         []Member          `json:"members"`
	Fingerprints    map[string]string `json:"fingerprints"` // SHA-256 by host path
	TakenAt         time.Time         `json:"takenAt"`
	Seconds         float64           `json:"seconds"`
}
