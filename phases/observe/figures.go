package observe

import (
	"context"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
)

// Figures are what a member has counted and measured; see package etcd.
type Figures = etcd.Figures

// Spread is a histogram of them.
type Spread = etcd.Spread

// Figures asks this node's etcd for its own.
func (n *Node) Figures(ctx context.Context, pod *EtcdPod, member uint64) (Figures, error) {
	access, err := n.Dialer().Access(pod.Access)
	if err != nil {
		return Figures{}, err
	}
	var further []string
	for _, raw := range SplitList(pod.Setting("", "listen-metrics-urls")) {
		further = append(further, n.FromHere(pod, raw)...)
	}
	return etcd.FiguresOf(ctx, access, member, further...)
}

// Trips are how long it takes from here to the peer ports of members and back, by member; those
// that accept no connection are left out.
func (n *Node) Trips(ctx context.Context, members []Member, enough time.Duration) map[uint64]time.Duration {
	took := make([]time.Duration, len(members))
	engine.Concurrently(len(took), func(i int) {
		for _, url := range members[i].PeerURLs {
			if took[i] = etcd.Reached(ctx, url, enough); took[i] > 0 {
				return
			}
		}
	})
	trips := map[uint64]time.Duration{}
	for i, m := range members {
		if took[i] > 0 {
			trips[uint64(m.ID)] = took[i]
		}
	}
	return trips
}
