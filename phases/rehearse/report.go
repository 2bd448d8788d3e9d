package rehearse

import (
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// Report is what a rehearsal found. The JSON names are stable.
type Report struct {
	At      time.Time `json:"at"` // when it began
	Outcome Outcome   `json:"outcome"`
	Why     string    `json:"why,omitempty"` // what ended it early, if something did

	Path            string    `json:"path"`             // host path of the snapshot
	Node            string    `json:"node,omitempty"`   // that it is of, as far as its sidecar says
	TakenAt         time.Time `json:"takenAt,omitzero"` // likewise
	ClusterID       string    `json:"clusterID,omitempty"`
	SHA256          string    `json:"sha256,omitempty"`
	SizeBytes       int64     `json:"sizeBytes,omitempty"`
	Revision        int64     `json:"revision,omitempty"`
	CompactRevision int64     `json:"compactRevision,omitempty"`
	HashKV          uint32    `json:"hashKV,omitempty"` // as the etcd that was started has it

	Etcd      *Etcd            `json:"etcd,omitempty"`
	Keys      int64            `json:"keys"`
	Resources map[string]int64 `json:"resources"` // objects by Kubernetes resource, as served
	Encrypted []Encrypted      `json:"encrypted"`
	Needs     Needs            `json:"needs"`
	Previous  *Previous        `json:"previous,omitempty"`

	StageSeconds   float64 `json:"stageSeconds,omitempty"`
	LoadSeconds    float64 `json:"loadSeconds,omitempty"`    // until etcd served
	RestoreSeconds float64 `json:"restoreSeconds,omitempty"` // what both take of a restore here
	Seconds        float64 `json:"seconds"`                  // of the rehearsal

	Findings []finding.Finding `json:"findings"`
}

// Outcome is how a rehearsal ended.
type Outcome string

// The outcomes.
const (
	OK     Outcome = "ok"
	Found  Outcome = "found"  // it was restored and served, and something about it is wrong
	Failed Outcome = "failed" // it could not be restored, or etcd did not serve
	Bad    Outcome = "bad"    // the snapshot is bad
)

// Etcd is the etcd that was started.
type Etcd struct {
	// Where it is from: the program in a file, that of the etcd that runs on this node, or this
	// program.
	From    string `json:"from" values:"file,node,built-in"`
	Path    string `json:"path,omitempty"` // of the file
	Version string `json:"version"`
	// The release that the data is of, as far as something tells.
	DataVersion string `json:"dataVersion,omitempty"`
	NoNetwork   bool   `json:"noNetwork"` // it had none but an empty one of its own
}

// Encrypted are the objects of one resource that are encrypted with one key.
type Encrypted struct {
	Resource string `json:"resource"`
	Provider string `json:"provider"` // as stored: k8s:enc:<provider>:<version>:<key>:
	Objects  int64  `json:"objects"`
	// Whether a value of it, as etcd served it, could be decrypted with the keys of this node.
	Readable string `json:"readable" values:"yes,no,unknown"`
}

// Needs is what the restored cluster needs of its machines. Here is left out where this node runs
// no API server, whose files could be looked at.
type Needs struct {
	Members   []Need   `json:"members"`   // names of the etcd members
	Nodes     []string `json:"nodes"`     // names of all registered nodes
	CAs       []Need   `json:"cas"`       // fingerprints of the CAs that it publishes
	TokenKeys []Need   `json:"tokenKeys"` // ids of keys that sign tokens of service accounts
	Files     []Need   `json:"files"`     // of which the backup's sidecar knows fingerprints
	Checked   bool     `json:"checked"`   // whether this node's files were looked at
}

// Need is one thing that is needed.
type Need struct {
	Name string `json:"name"`
	Here bool   `json:"here,omitempty"`
}

// Previous is the rehearsal before, if it was of the same cluster.
type Previous struct {
	At       time.Time `json:"at"`
	Path     string    `json:"path"`
	Revision int64     `json:"revision"`
	Keys     int64     `json:"keys"`
}

// Grave are the findings that somebody must look into.
func (r *Report) Grave() []finding.Finding {
	return slices.DeleteFunc(slices.Clone(r.Findings), func(f finding.Finding) bool {
		return f.Severity == finding.Info
	})
}

func (r *Report) found(code finding.Code, subject, format string, args ...any) {
	r.Findings = append(r.Findings, finding.New(code, subject, format, args...))
}
