package op

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// arriving is a learner to which some bytes come between two looks, of all that the leader has.
type arriving struct {
	*ends
	cluster          uint64
	each, bytes, all int64
}

func (a *arriving) Learner(context.Context, Access, Access) (Learner, error) {
	a.bytes = min(a.bytes+a.each, a.all)
	l := Learner{ClusterID: a.cluster, SizeBytes: a.bytes, LeaderBytes: a.all, Applied: 10, Committed: 10}
	if a.bytes < a.all {
		l.Failing = []string{"serializable_read", "linearizable_read"}
	}
	return l, nil
}

func TestALearnerThatIsSlowIsNotOneThatIsStuck(t *testing.T) {
	for _, tt := range []struct {
		name     string
		cluster  uint64
		each     int64
		says     string // empty: it serves in the end
		progress int64
	}{
		{"slow: it takes three times as long as nothing may arrive", 1, 1, "", 899},
		{"stuck", 1, 0, "nothing has arrived for 1m0s; it has 0 of the leader's 900 bytes, and 10 of 10 entries: its " +
			"checks fail: serializable_read, linearizable_read", 0},
		{"of another cluster", 2, 900, "another etcd answers at https://own: of cluster 2, not 1", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod, c := inPod("etcd-a")
			e := &ends{exit: node.Exit{}, now: time.Unix(1e9, 0)}
			e.run(c)
			target, most := e.target(t), int64(0)
			target.Etcd = &arriving{ends: e, cluster: tt.cluster, each: tt.each, all: 900}
			target.Progress = func(done, _ int64) { most = max(most, done) }
			err := (&AwaitServing{Access: Access{Endpoints: []string{"https://own"}}, ClusterID: 1, Snap: "/none",
				Limit: time.Minute, Watched: WatchedIn(pod, nil)}).Do(t.Context(), target)
			if (err != nil) != (tt.says != "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("it ended with %v", err)
			}
			if most != tt.progress {
				t.Errorf("it told of %d bytes", most)
			}
		})
	}
}
