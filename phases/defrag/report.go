package defrag

import "github.com/etcdpod/etcdpod/phases/members"

// Report is the result of `defrag`. The JSON names are stable.
type Report struct {
	Members []Member `json:"members"` // by name
	// Alarms that are raised because a database reached its quota, also of members that are gone.
	Alarms []Alarm `json:"alarms"`
	// Whether they were turned off at the end: that is done once every member is below its quota.
	Disarmed bool     `json:"disarmed"`
	Notes    []string `json:"notes"` // what a person should know
}

// Alarm is one NOSPACE.
type Alarm struct {
	ID   string `json:"id"`             // hex, of the member that raised it
	Name string `json:"name,omitempty"` // of that member; empty: it is none any more
}

// Member is one member, as it was before its turn.
type Member struct {
	ID         string `json:"id"`             // hex
	Name       string `json:"name,omitempty"` // empty: it has never started
	Role       string `json:"role" values:"leader,voter,learner"`
	Node       string `json:"node,omitempty"` // that it runs on, if anything shows that
	Version    string `json:"version,omitempty"`
	SizeBytes  int64  `json:"sizeBytes,omitempty"` // left out if it does not answer
	InUseBytes int64  `json:"inUseBytes,omitempty"`
	QuotaBytes int64  `json:"quotaBytes,omitempty"` // etcd's own; left out if it has none
	// How large it is expected to become, and what that is from: the entries in this node's own
	// database, which all members have, or those in a backup, or else what etcd says is in use,
	// which is mostly too much.
	PredictedBytes int64  `json:"predictedBytes,omitempty"`
	PredictedFrom  string `json:"predictedFrom,omitempty" values:"entries,backup,in-use"`
	// About how long its clients wait.
	StallSeconds float64 `json:"stallSeconds,omitempty"`
	// Who that is: the API servers that use it, as far as anything shows them.
	APIServers []members.APIServer `json:"apiServers"`
	State      string              `json:"state" values:"due,passed-over,defragmented,unknown"`
	Reason     string              `json:"reason,omitempty"` // why it was passed over
	// After its turn.
	AfterBytes int64   `json:"afterBytes,omitempty"`
	Seconds    float64 `json:"seconds,omitempty"`
}

// The states of a member.
const (
	due          = "due"
	passedOver   = "passed-over"
	defragmented = "defragmented"
	unknown      = "unknown" // whether it still does it: nobody waited for the end
)

// Due are those whose turn is yet to come.
func (r *Report) Due() (n int) {
	for _, m := range r.Members {
		if m.State == due {
			n++
		}
	}
	return n
}
