package observe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// OwnLive asks the local member for what it can say without a quorum; nil when it does not answer
// at all. The error covers what it could not say: the members, or which API servers use it.
func (n *Node) OwnLive(ctx context.Context, pod *EtcdPod) (*Live, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := n.Dialer().Dial(ctx, pod.Access)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	s := c.Status(ctx)[0]
	if s.Err != nil {
		return nil, s.Err
	}
	members, membersErr := c.OwnMembers(ctx)
	live := liveOf(s, members)
	servers, err := c.Entries(ctx, masterLeases, true)
	live.register(servers)
	return live, errors.Join(membersErr, err)
}

// Voters is how many members vote: more than half of them are a quorum.
func (l *Live) Voters() (voters int) {
	for _, m := range l.Members {
		if !m.IsLearner {
			voters++
		}
	}
	return voters
}

// MemberNames applies [MemberName] to each member.
func MemberNames(members []Member) []string {
	var names []string
	for _, m := range members {
		names = append(names, MemberName(m))
	}
	return names
}

// MemberName is what to call a member in messages: its name, or the peer URLs of one that has not
// started yet.
func MemberName(m Member) string {
	if m.Name == "" {
		return fmt.Sprintf("one not started yet at %s", strings.Join(m.PeerURLs, ","))
	}
	return m.Name
}

// Silent returns the other members of the cluster, learners included, whose peer ports accept no
// connection; none when live is nil. It asks all of them at once.
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

// UsesOtherEtcd says whether the API server here uses only etcds on other nodes, so that none is
// needed here.
func UsesOtherEtcd(files []ManifestFile) bool {
	m, c, ok := Program(files, "kube-apiserver")
	if !ok {
		return false
	}
	servers := SplitList(FlagOf(m, c, EtcdServersFlag))
	return len(servers) > 0 && !slices.ContainsFunc(HostsOf(servers), Loopback)
}
