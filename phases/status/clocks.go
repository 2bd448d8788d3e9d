package status

import (
	"context"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/together"
)

// clock is how far the clock of a node is ahead of the coordinator's. It was read at some instant
// between question and answer, so it may be wrong by half the time between these.
type clock struct {
	ahead, doubt time.Duration
	read         bool
}

// mostSkew is by how much clocks may differ: etcd itself logs more than that as a high clock drift
// (server/etcdserver/api/rafthttp/probing_status.go).
const mostSkew = time.Second

// clockOf asks a node for its time. Where that cannot be had, nothing is known of its clock.
func clockOf(ctx context.Context, p *together.Peer) clock {
	asked := time.Now()
	theirs, err := together.Query[time.Time](ctx, p, askClock, nil)
	if err != nil {
		return clock{}
	}
	doubt := time.Since(asked) / 2
	return clock{ahead: theirs.Sub(asked.Add(doubt)), doubt: doubt, read: true}
}

// judgeClocks compares the clock that is furthest behind with the one furthest ahead.
func (s *NodesStatus) judgeClocks() found {
	nodes := slices.DeleteFunc(slices.Clone(s.Nodes), func(n NodeStatus) bool { return !n.clock.read })
	if len(nodes) < 2 {
		return nil
	}
	order := func(a, b NodeStatus) int { return int(a.clock.ahead - b.clock.ahead) }
	slow, fast := slices.MinFunc(nodes, order), slices.MaxFunc(nodes, order)
	apart := fast.clock.ahead - slow.clock.ahead
	if apart-fast.clock.doubt-slow.clock.doubt <= mostSkew {
		return nil
	}
	return one(finding.ClocksDiffer, slow.Node+", "+fast.Node, "the clock of %s is %s ahead of that of %s: leases, "+
		"certificates and the age of backups go wrong; check that time is synchronized on both: "+
		"`timedatectl`, or `chronyc tracking`", fast.Node, apart.Round(100*time.Millisecond), slow.Node)
}
