package restore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Written is what etcd holds beyond the data to restore, or instead of it.
type Written struct {
	Changes map[string]etcd.Changes // by resource
	Unknown string                  // why it was not counted
}

// mostCounted is how many keys are counted, at most: more would take too long, on the cluster's
// time.
const mostCounted = 100_000

func notCounted() Written {
	return Written{Unknown: "etcd does not answer, so later writes could not be counted"}
}

// written asks the etcd that serves what a restore of s gives up.
func written(ctx context.Context, n *observe.Node, pod *observe.EtcdPod, s *SnapshotFacts) Written {
	if pod == nil {
		return notCounted()
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c, err := n.Dialer().Dial(ctx, pod.Access)
	if err != nil {
		return Written{Unknown: fmt.Sprintf("later writes could not be counted: %v", err)}
	}
	defer c.Close()
	changes, err := c.Since(ctx, s.surely(), mostCounted)
	if err != nil {
		return Written{Unknown: fmt.Sprintf("later writes were not counted: %v", err)}
	}
	return Written{Changes: changes}
}

// stakes are those of a restore on this node alone.
func (o restorer) stakes(f *Facts) engine.Stakes {
	if f.Etcd == nil {
		return engine.Stakes{}
	}
	lost := append(o.lost(f.Snapshot, f.Live, f.Written, f.Now), unreadable(f.Encryption)...)
	lost = append(lost, f.inLog()...)
	return engine.Stakes{Lost: lost, SizeBytes: f.Snapshot.Proof.SizeBytes, Back: o.back(f)}
}

// inLog is what a person need not give up: etcd only has to be started.
func (f *Facts) inLog() []string {
	if f.LogAlone == nil || !f.LogAlone.Whole {
		return nil
	}
	return []string{fmt.Sprintf("on %s, what etcd's log holds: its db is gone, but if that etcd is started instead, "+
		"it makes its db anew from the log, and nothing is lost", f.Node)}
}

// back is how to come back when the run is over; nothing, if it replaces no data that could be
// restored.
func (o restorer) back(f *Facts) []string {
	if o.Shared == nil {
		if command := takingBack(f.Notes, nil); command != "" {
			return []string{fmt.Sprintf("`%s` brings back the replaced data, which is kept until `etcdpod prune`",
				command)}
		}
	} else if command := takingBack(f.Notes, &o.Shared.Cluster); command != "" {
		return []string{fmt.Sprintf("on %s, `%s` brings back the replaced data, which is kept on each node until "+
			"`etcdpod prune`", f.Node, command)}
	}
	return nil
}

// lost says what is given up: how old the data is, and what was written since.
func (o restorer) lost(s *SnapshotFacts, live *observe.Live, w Written, now time.Time) []string {
	since := "everything written to etcd since that data"
	switch {
	case o.FromDataDir != "":
	case s.Sidecar != nil && !s.Sidecar.TakenAt.IsZero():
		since = fmt.Sprintf("everything written since the backup of %s (%s)",
			s.Sidecar.TakenAt.UTC().Format("2006-01-02 15:04 UTC"), engine.Age(now.Sub(s.Sidecar.TakenAt)))
	case !s.ModTime.IsZero():
		since = fmt.Sprintf("everything written since the backup, whose file was last modified %s; it has no sidecar "+
			"that says when it was taken", engine.Age(now.Sub(s.ModTime)))
	}
	switch cluster := s.cluster(); {
	case w.Unknown != "":
		return []string{since, w.Unknown}
	case live != nil && (cluster != 0 && cluster != op.ID(live.ClusterID) || s.surely() > live.Revision):
		return []string{"everything that etcd holds now: the backup is from another cluster, or from before a restore",
			"objects: " + against(s, w.Changes)}
	case live != nil && cluster == 0:
		return []string{since, changed(s, w.Changes), "provided that the backup is of this " +
			"cluster, which no sidecar confirms"}
	}
	return []string{since, changed(s, w.Changes)}
}

// cluster is the id of the cluster that the data is of, as far as something tells; 0: nothing does.
// A restored cluster has another id.
func (s *SnapshotFacts) cluster() op.ID {
	if s.Sidecar == nil {
		return s.Cluster
	}
	id, _ := strconv.ParseUint(s.Sidecar.ClusterID, 16, 64)
	return op.ID(id)
}

// churn is what components write all the time, with nobody's doing. An API server that passes on to
// its peers what it does not know itself has an entry of its own in peerserverleases, too.
var churn = []string{"events", "leases", "masterleases", "peerserverleases"}

// changed says what was made, changed and deleted since, by resource. Where a log leads on from
// what was counted, some of what was made and changed since is in that log, and a deletion cannot
// be seen at all.
func changed(s *SnapshotFacts, now map[string]etcd.Changes) string {
	type row struct{ made, changed, deleted int64 }
	var total row
	rows := map[string]row{}
	for name, c := range now {
		rows[name] = row{c.Made, c.Changed, 0}
	}
	for _, b := range s.Resources {
		r := rows[b.Resource]
		r.deleted = max(0, b.Objects+r.made-now[b.Resource].Now)
		rows[b.Resource] = r
	}
	weigh := func(r row) int64 { return r.made + r.changed + r.deleted }
	maps.DeleteFunc(rows, func(name string, r row) bool { return weigh(r) == 0 || slices.Contains(churn, name) })
	say := func(r row) string {
		var all []string
		for _, part := range []struct {
			n    int64
			what string
		}{{r.made, "created"}, {r.changed, "changed"}, {r.deleted, "deleted"}} {
			if part.n > 0 {
				all = append(all, fmt.Sprintf("%d %s", part.n, part.what))
			}
		}
		return strings.Join(all, ", ")
	}
	var words []string
	for _, name := range heaviest(rows, weigh) {
		r := rows[name]
		total.made, total.changed, total.deleted = total.made+r.made, total.changed+r.changed, total.deleted+r.deleted
		words = append(words, name+" "+say(r))
	}
	switch {
	case len(words) == 0 && s.counted():
		return "no objects other than events and leases: etcd holds the same as the backup"
	case len(words) == 0:
		return "objects: none created or changed since, not counting events and leases; " + notDeleted
	case !s.counted():
		return fmt.Sprintf("objects: at most %s since, not counting events and leases (%s); %s", say(total),
			observe.Few(words), notDeleted)
	}
	return fmt.Sprintf("objects: %s since, not counting events and leases (%s)", say(total), observe.Few(words))
}

const notDeleted = "how many were deleted since is not known"

// against compares what there is of each resource in the snapshot, if that is known, and now.
func against(s *SnapshotFacts, now map[string]etcd.Changes) string {
	rows := map[string][2]int64{}
	for name, c := range now {
		rows[name] = [2]int64{0, c.Now}
	}
	for _, b := range s.Resources {
		rows[b.Resource] = [2]int64{b.Objects, rows[b.Resource][1]}
	}
	maps.DeleteFunc(rows, func(name string, r [2]int64) bool { return r[0] == r[1] || slices.Contains(churn, name) })
	var words []string
	for _, name := range heaviest(rows, func(r [2]int64) int64 { return max(r[0]-r[1], r[1]-r[0]) }) {
		word := fmt.Sprintf("%s %d now", name, rows[name][1])
		if s.counted() {
			word += fmt.Sprintf(", %d in the backup", rows[name][0])
		}
		words = append(words, word)
	}
	switch {
	case len(words) == 0 && !s.counted():
		return "none now, not counting events and leases"
	case len(words) == 0:
		return "as many of each kind as in the backup, though not necessarily the same ones"
	}
	return observe.Few(words)
}

// heaviest are the names, those with most weight first.
func heaviest[R any](rows map[string]R, weigh func(R) int64) []string {
	return slices.SortedFunc(maps.Keys(rows), func(a, b string) int {
		return cmp.Or(cmp.Compare(weigh(rows[b]), weigh(rows[a])), cmp.Compare(a, b))
	})
}
