package observe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/etcdpod/etcdpod/phases/internal/bind"
)

// Alone asks the local member for what it can tell without a quorum; nil when it
// does not answer at all.
func (n *Node) Alone(ctx context.Context, pod *EtcdPod) *Live {
	c, err := n.Bound().Dial(ctx, pod.Access)
	if err != nil {
		return nil
	}
	defer c.Close()
	s := c.Status(ctx)[0]
	if s.Err != nil {
		return nil
	}
	members, err := c.OwnMembers(ctx)
	if err != nil {
		members = nil // it does not know more than that
	}
	return &Live{ClusterID: s.ClusterID, MemberID: s.MemberID,
		Revision: s.Revision, Version: s.Version, SizeBytes: s.SizeBytes, Members: bind.MembersOf(members)}
}

// Unanswering are the voting members elsewhere at whose peer ports nobody answers.
func (n *Node) Unanswering(ctx context.Context, live *Live) []Member {
	return slices.DeleteFunc(slices.Clone(live.Members), func(m Member) bool {
		return uint64(m.ID) == live.MemberID || m.IsLearner ||
			slices.ContainsFunc(m.PeerURLs, func(url string) bool { return n.Etcd.Listening(ctx, url) })
	})
}

func (l *Live) Voters() (voters int) {
	for _, m := range l.Members {
		if !m.IsLearner {
			voters++
		}
	}
	return voters
}

func MemberNames(members []Member) []string {
	var names []string
	for _, m := range members {
		names = append(names, MemberName(m))
	}
	return names
}

func MemberName(m Member) string {
	if m.Name == "" {
		return fmt.Sprintf("one not started yet at %s", strings.Join(m.PeerURLs, ","))
	}
	return m.Name
}

// Silent returns the other members of the cluster that do not answer at their peer ports, where
// this one reaches them or nothing does. All are asked at once.
func (n *Node) Silent(ctx context.Context, live *Live) []Member {
	if live == nil {
		return nil
	}
	answers := make([]bool, len(live.Members))
	var wg sync.WaitGroup
	for i, m := range live.Members {
		wg.Go(func() {
			answers[i] = uint64(m.ID) == live.MemberID ||
				slices.ContainsFunc(m.PeerURLs, func(url string) bool { return n.Etcd.Listening(ctx, url) })
		})
	}
	wg.Wait()
	var silent []Member
	for i, m := range live.Members {
		if !answers[i] {
			silent = append(silent, m)
		}
	}
	return silent
}

func NamesOf(members []Member) string {
	var names []string
	for _, m := range members {
		names = append(names, MemberName(m))
	}
	return strings.Join(names, ", ")
}

// usesOtherEtcd: an API server whose etcd is on other nodes needs none here.
func UsesOtherEtcd(files []ManifestFile) bool {
	m, c, ok := Program(files, "kube-apiserver")
	if !ok {
		return false
	}
	servers := List(FlagOf(m, c, EtcdServersFlag))
	return len(servers) > 0 && !slices.ContainsFunc(HostsOf(servers), Loopback)
}
