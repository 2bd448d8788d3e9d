package rehearse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Kept is what a node keeps of its rehearsals.
type Kept struct {
	Newest *Report `json:"newest"`
	Served *Report `json:"served,omitempty"` // the newest one in which etcd served
	Times  int     `json:"times"`            // how many there were
}

// file is where it is; host path, 0600.
const file = journal.Home + "/rehearsals.json"

// Last reads it; Newest is nil if there was no rehearsal.
func Last(fsys node.Reader) (k Kept, err error) {
	data, err := fsys.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &k)
	}
	if err != nil {
		return Kept{}, fmt.Errorf("cannot read what came out of the last rehearsal: %w", err)
	}
	return k, nil
}

func (r *rehearsal) keep() error {
	k, err := Last(r.look.FS)
	if err != nil {
		k = Kept{} // it is written anew
	}
	k.Newest, k.Times = r.Report, k.Times+1
	if r.Outcome == OK || r.Outcome == Found {
		k.Served = r.Report
	}
	return op.KeepRehearsal(r.target, file, k)
}

// churn is what components write all the time, with nobody's doing.
var churn = []string{"events", "leases", "masterleases", "peerserverleases"}

// fewObjects may come and go together.
const fewObjects = 5

// compare holds what there is of each kind against the rehearsal before, if that was of an earlier
// backup of the same cluster: who deletes half of a kind by mistake finds it out here at last.
func (r *rehearsal) compare() {
	k, err := Last(r.look.FS)
	if err != nil || k.Served == nil || !r.follows(k.Served) {
		return
	}
	before := k.Served
	r.Previous = &Previous{At: before.At, Path: before.Path, Revision: before.Revision, Keys: before.Keys}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(before.Resources)) {
		was, is := before.Resources[name], r.Resources[name]
		if was >= fewObjects && 2*is <= was && !slices.Contains(churn, name) {
			words = append(words, fmt.Sprintf("%s: %d, and %d then", name, is, was))
		}
	}
	if len(words) > 0 {
		r.found(finding.RehearsalShrunk, r.Path, "at most half is left of what the rehearsal of %s found: %s",
			before.At.UTC().Format("2006-01-02 15:04 UTC"), observe.Few(words))
	}
}

// follows says whether a report is of an earlier state of the same cluster, or of the same. Without
// a sidecar, the CAs tell.
func (r *rehearsal) follows(before *Report) bool {
	r.source.describe(r.Report)
	same := before.ClusterID != "" && before.ClusterID == r.ClusterID
	if before.ClusterID == "" || r.ClusterID == "" {
		same = before.Path == r.Path || slices.ContainsFunc(before.Needs.CAs, func(ca Need) bool {
			return slices.ContainsFunc(r.Needs.CAs, func(other Need) bool { return ca.Name == other.Name })
		})
	}
	return same && before.Revision <= r.Revision
}

// Brief is what status shows of the newest rehearsal.
type Brief struct {
	At      time.Time `json:"at"`
	Outcome Outcome   `json:"outcome"`
	Why     string    `json:"why,omitempty"`
	Path    string    `json:"path"`             // host path of the snapshot
	TakenAt time.Time `json:"takenAt,omitzero"` // when that was taken, if its sidecar says
	// What a restore of it would take, if it could be restored.
	RestoreSeconds float64 `json:"restoreSeconds,omitempty"`
	Times          int     `json:"times"` // how many rehearsals there were on this node
}

// Brief is nil if there was no rehearsal.
func (k Kept) Brief() *Brief {
	r := k.Newest
	if r == nil {
		return nil
	}
	return &Brief{At: r.At, Outcome: r.Outcome, Why: r.Why, Path: r.Path, TakenAt: r.TakenAt,
		RestoreSeconds: r.RestoreSeconds, Times: k.Times}
}

// old is how long ago the backup of the newest rehearsal may have been taken.
const old = 30 * 24 * time.Hour

// Judge says what is wrong with the newest rehearsal. That there was none is no finding, nor that
// somebody has tried one, once, long ago: who has made it a habit wants to know when it ends.
func (k Kept) Judge(now time.Time) []finding.Finding {
	r := k.Newest
	if r == nil {
		return nil
	}
	then := r.TakenAt
	if then.IsZero() {
		then = r.At
	}
	day := r.At.UTC().Format("2006-01-02 15:04 UTC")
	switch {
	case r.Outcome == Failed || r.Outcome == Bad:
		return []finding.Finding{finding.New(finding.RehearsalFailed, r.Path, "the rehearsal of %s failed: %s: %s. "+
			"See with `etcdpod rehearse latest` whether the newest backup can be restored", day, r.Path, r.Why)}
	case r.Outcome == Found && len(r.Grave()) > 0:
		return []finding.Finding{finding.New(finding.RehearsalFailed, r.Path, "the rehearsal of %s found something "+
			"wrong with %s: %s", day, r.Path, r.Grave()[0].Text)}
	case k.Times > 1 && now.Sub(then) > old:
		return []finding.Finding{finding.New(finding.RehearsalOld, r.Path, "the backup of the newest rehearsal is "+
			"from %s: run `etcdpod rehearse latest`", then.UTC().Format("2006-01-02"))}
	}
	return nil
}
