package restore

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Which member runs on which node, of what cluster, and which of them are given up. Members are
// told apart by id and peer URL: etcd lets two of them have one name, and one that has never
// started has none.

// member is the id of the node's own member; 0 when nothing tells it.
func (s Survey) member() uint64 {
	switch {
	case s.Live != nil:
		return s.Live.MemberID
	case s.Stopped != nil:
		return s.Stopped.MemberID
	}
	return 0
}

// cluster is the id of the cluster whose data the node has; 0 when nothing tells it.
func (s Survey) cluster() uint64 {
	switch {
	case s.Live != nil:
		return s.Live.ClusterID
	case s.Stopped != nil:
		return s.Stopped.ClusterID
	}
	return 0
}

// absent are those of a cluster's members that run on none of the nodes. A node runs one of them at
// most.
func (v view) absent(members []observe.Member) []observe.Member {
	left := slices.Clone(members)
	nodes := slices.DeleteFunc(slices.Sorted(maps.Keys(v.surveys)),
		func(node string) bool { return v.surveys[node].Member == nil })
	for _, same := range []func(Survey, observe.Member) bool{
		func(s Survey, m observe.Member) bool { return s.member() != 0 && s.member() == uint64(m.ID) },
		func(s Survey, m observe.Member) bool { return observe.ShareURL(s.Member.PeerURLs, m.PeerURLs) },
		func(s Survey, m observe.Member) bool { return m.Name != "" && m.Name == s.Member.Name },
	} {
		nodes = slices.DeleteFunc(nodes, func(node string) bool {
			i := slices.IndexFunc(left, func(m observe.Member) bool { return same(v.surveys[node], m) })
			if i >= 0 {
				left = slices.Delete(left, i, i+1)
			}
			return i >= 0
		})
	}
	return left
}

// lost says whether the person gives a member up.
func (v view) lost(m observe.Member) bool {
	return slices.ContainsFunc(v.options.Lost, func(word string) bool { return observe.Called(m, word) })
}

// returned says whether a node is one that a restore of the others left out: it took no part, its
// member was one of the cluster that was replaced, and is none of the present one. Its data is of
// the cluster from before.
func (v view) returned(s Survey) bool {
	if s.Member == nil {
		return false
	}
	replaced := false
	for _, other := range v.surveys {
		replaced = replaced ||
			other.LastRestore != s.LastRestore && observe.ShareURL(other.Replaced, s.Member.PeerURLs)
		if other.Live != nil && other.cluster() != s.cluster() && slices.ContainsFunc(other.Live.Members,
			func(m observe.Member) bool { return observe.ShareURL(m.PeerURLs, s.Member.PeerURLs) }) {
			return false
		}
	}
	return replaced
}

// checkClusters refuses nodes of different clusters: the data of one of them would be replaced by
// what is another's.
func (v view) checkClusters(Shared) error {
	of := map[uint64][]string{}
	for _, node := range slices.Sorted(maps.Keys(v.surveys)) {
		if id := v.surveys[node].cluster(); id != 0 && !v.returned(v.surveys[node]) {
			of[id] = append(of[id], node)
		}
	}
	if len(of) < 2 {
		return nil
	}
	var words []string
	for _, id := range slices.SortedFunc(maps.Keys(of), func(a, b uint64) int { return slices.Compare(of[a], of[b]) }) {
		words = append(words, fmt.Sprintf("%s of %x", strings.Join(of[id], ", "), id))
	}
	return engine.Refuse("list only the nodes of the cluster to be restored in --nodes; if nobody needs a node's "+
		"data, first stop etcd there and move its data directory away",
		"the nodes are not all members of one cluster: %s", strings.Join(words, "; "))
}

// checkLost refuses a name that two members have, or that is one of the nodes to restore.
func (v view) checkLost(Shared) error {
	for _, word := range v.options.Lost {
		meant := slices.DeleteFunc(v.absent(v.old()),
			func(m observe.Member) bool { return !observe.Called(m, word) })
		if len(meant) > 1 {
			return engine.Refuse("give the ID of the destroyed one, or both IDs",
				"--lost %s matches %d members: %s", word, len(meant), namesOf(meant, meant))
		}
		node := v.nodeCalled(word)
		if len(meant) == 0 && node != "" {
			return engine.Refuse("remove it from one of the two", "%s is both to be restored and given up: --lost %s "+
				"means its member", node, word)
		}
	}
	return nil
}

// nodeCalled is the node whose own member a word means; empty if none.
func (v view) nodeCalled(word string) string {
	for _, node := range slices.Sorted(maps.Keys(v.surveys)) {
		s := v.surveys[node]
		own := observe.Member{ID: op.ID(s.member()), Name: node}
		if s.Member != nil {
			own.Name, own.PeerURLs = s.Member.Name, s.Member.PeerURLs
		}
		if observe.Called(own, word) {
			return node
		}
	}
	return ""
}

// named are the nodes as --nodes names them.
func (v view) named() (words []string) {
	for _, at := range v.options.Nodes {
		word := at.Name
		if at.Host != at.Name {
			word += "=" + at.Host
		}
		words = append(words, word)
	}
	return words
}

func (v view) checkMembership(Shared) error {
	unlisted := slices.DeleteFunc(v.absent(v.old()), v.lost)
	if len(unlisted) == 0 {
		return nil
	}
	return engine.Refuse(v.options.Restore.allOfThem(v.named(), v.options.Lost, unlisted),
		"the cluster has members that are not in --nodes: %s", namesOf(unlisted, v.old()))
}

// strangers are the peer URLs of members, of the current cluster and of the snapshot, that run on
// none of the nodes.
func (v view) strangers() (urls []string) {
	for _, m := range append(v.absent(v.old()), v.absent(v.source.Members)...) {
		urls = append(urls, m.PeerURLs...)
	}
	slices.Sort(urls)
	return slices.Compact(urls)
}

// risk warns that lost nodes go on with the old data when their power returns: if they are a quorum
// of the old cluster, it serves again. Learners do not vote, and one that never started has no data
// to serve.
func (v view) risk() string {
	voters := slices.DeleteFunc(slices.Clone(v.old()), func(m observe.Member) bool { return m.IsLearner })
	lost := slices.DeleteFunc(v.absent(voters),
		func(m observe.Member) bool { return !v.lost(m) || !observe.Started(m) })
	if 2*len(lost) <= len(voters) {
		return ""
	}
	return fmt.Sprintf("%s are %d of the old cluster's %d voting members: if they are ever powered on again, the old "+
		"cluster serves beside the restored one. Wipe their data before that",
		namesOf(lost, voters), len(lost), len(voters))
}
