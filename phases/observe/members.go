package observe

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// OwnLive asks the local member for what it can say without a quorum; nil when it does not answer
// at all. The error covers what it could not say: the members, or which API servers use it.
func (n *Node) OwnLive(ctx context.Context, a op.Access) (*Live, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := n.Dialer().Dial(ctx, a)
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

// MemberNames applies [MemberName] to each member, and tells members of one name apart.
func MemberNames(members []Member) []string {
	var names []string
	for _, m := range members {
		name := MemberName(m)
		twin := func(o Member) bool { return o.ID != m.ID && o.Name == m.Name }
		if m.Name != "" && slices.ContainsFunc(members, twin) {
			name = fmt.Sprintf("%s (%s at %s)", name, m.ID, strings.Join(m.PeerURLs, ","))
		}
		names = append(names, name)
	}
	return names
}

// OwnAmong finds a node's own member in a list of a cluster's: by its id, which is 0 where nothing
// tells it; else by its peer URLs; else, since a machine may have got another address, by its name.
// etcd lets two members have one name, so a name alone proves nothing. It is -1 when none is.
func OwnAmong(members []Member, id uint64, name string, peerURLs []string) int {
	for _, same := range []func(Member) bool{
		func(m Member) bool { return uint64(m.ID) == id },
		func(m Member) bool { return ShareURL(m.PeerURLs, peerURLs) },
		func(m Member) bool { return m.Name != "" && m.Name == name },
	} {
		if i := slices.IndexFunc(members, same); i >= 0 {
			return i
		}
	}
	return -1
}

// ShareURL says whether two lists of URLs have one in common.
func ShareURL(a, b []string) bool {
	return slices.ContainsFunc(a, func(url string) bool { return slices.Contains(b, url) })
}

// Started says whether a member has ever been part of its cluster: until then it has no name, and
// no data, but it counts for the quorum.
func Started(m Member) bool { return m.Name != "" }

// Called says whether a person means a member by a word: its id, a peer URL, or its name.
func Called(m Member, word string) bool {
	id := strings.TrimPrefix(strings.ToLower(word), "0x")
	return id == m.ID.String() || slices.Contains(m.PeerURLs, strings.TrimSuffix(word, "/")) ||
		m.Name != "" && m.Name == word
}

// IDs are the ids of members.
func IDs(members []Member) []string {
	var ids []string
	for _, m := range members {
		ids = append(ids, m.ID.String())
	}
	return ids
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
	engine.Concurrently(len(answers), func(i int) {
		m := live.Members[i]
		answers[i] = uint64(m.ID) == live.MemberID ||
			slices.ContainsFunc(m.PeerURLs, func(url string) bool { return n.Etcd.Listening(ctx, url) })
	})
	var silent []Member
	for i, m := range live.Members {
		if !answers[i] {
			silent = append(silent, m)
		}
	}
	return silent
}

// Hung are those of some other members whose peer ports accept connections, and then say nothing.
// They are asked as this node's etcd asks them.
func (n *Node) Hung(ctx context.Context, pod *EtcdPod, members []Member) (hung []Member) {
	hangs := make([]bool, len(members))
	engine.Concurrently(len(members), func(i int) {
		if len(members[i].PeerURLs) == 0 {
			return
		}
		access, err := n.Dialer().Access(pod.Peer.At(members[i].PeerURLs...))
		hangs[i] = err == nil && etcd.PeerHangs(ctx, access)
	})
	for i, m := range members {
		if hangs[i] {
			hung = append(hung, m)
		}
	}
	return hung
}

// askOthers is how long the other members may take to say who is one.
const askOthers = 5 * time.Second

// KnownToOthers is the member that the others know at this node's peer URLs; nil where they know
// none, or cannot be asked. They are asked as etcd itself asks them when it starts on nothing.
func (n *Node) KnownToOthers(ctx context.Context, pod *EtcdPod) *Member {
	ctx, cancel := context.WithTimeout(ctx, askOthers)
	defer cancel()
	others := slices.DeleteFunc(PeersIn(pod.Setting("", "initial-cluster")),
		func(url string) bool { return slices.Contains(pod.PeerURLs, url) })
	if len(others) == 0 {
		return nil
	}
	access, err := n.Dialer().Access(pod.Peer.At(others...))
	if err != nil {
		return nil
	}
	members, err := etcd.PeerMembers(ctx, access)
	if err != nil {
		return nil
	}
	for _, m := range bind.MembersOf(members) {
		if ShareURL(m.PeerURLs, pod.PeerURLs) && Started(m) {
			return &m
		}
	}
	return nil
}

// UsesOtherEtcd says whether the API server here uses only etcds on other nodes, so that none is
// needed here.
func UsesOtherEtcd(files []ManifestFile) bool {
	m, c, ok := Program(files, "kube-apiserver")
	if !ok {
		return false
	}
	servers := EtcdServers(m, c)
	return len(servers) > 0 && !slices.ContainsFunc(HostsOf(servers), Loopback)
}

// TraceOfEtcd says what tells that etcd ought to run on this node, for when no manifest says so;
// empty: nothing does. An API server knows which etcds it uses, and outranks files that are left.
func (n *Node) TraceOfEtcd(files []ManifestFile) string {
	if m, c, ok := Program(files, "kube-apiserver"); ok {
		own := Addresses(files)
		for _, url := range EtcdServers(m, c) {
			if host := HostOf(url); Loopback(host) || slices.Contains(own, host) {
				return "the API server uses " + url
			}
		}
		return ""
	}
	for _, file := range []string{path.Join(KubeadmCertificatesDir, "etcd/server.crt"),
		path.Join(KubeadmCertificatesDir, "etcd/peer.crt"), path.Join(KubeadmDataDir, "member")} {
		if n.Exists(file) {
			return file + " exists"
		}
	}
	return ""
}

// Although says that a trace tells otherwise, if there is one.
func Although(trace string) string {
	if trace == "" {
		return ""
	}
	return ", although " + trace
}
