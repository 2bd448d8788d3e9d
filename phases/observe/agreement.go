package observe

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Agreement is whether the members of a cluster hold the same.
type Agreement struct {
	Differ  []string // names of the members that differ from most, or of all where there is no most
	Own     bool     // this node's is one of them
	Unasked []string // why a member could not be compared
	// TooLarge is why none was compared, and how a person does it.
	TooLarge string
}

// memberHash is what a member answered.
type memberHash struct {
	name string
	own  bool
	hash etcd.Hash
	err  error
}

// mostHashed is up to how many bytes in use members are made to hash all they hold: meanwhile their
// writes wait, 0.3 s for a GB. A hash as of a compacted revision costs nothing.
const mostHashed = 1 << 30

// MayHash says whether a member with this much in use may be made to hash it all.
func MayHash(inUseBytes int64) bool { return inUseBytes <= mostHashed }

// kubernetesCompacts is where the API server notes the revision that it compacts to
// (k8s.io/apiserver, storage/etcd3/compact.go).
const kubernetesCompacts = "compact_rev_key"

// Agree compares the members, for at most half a minute. It is nil for a cluster of one. In
// passing, they are compared only where that costs them nothing.
func (n *Node) Agree(ctx context.Context, a op.Access, live *Live, inPassing bool) *Agreement {
	if live == nil || len(live.Members) < 2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := n.Dialer().Dial(ctx, a)
	if err != nil {
		return &Agreement{Unasked: []string{err.Error()}}
	}
	defer c.Close()
	members, err := c.Members(ctx)
	if err != nil {
		return &Agreement{Unasked: []string{err.Error()}}
	}
	revisions := revisionsOf(live, compactedTo(ctx, c), inPassing)
	if !MayHash(live.InUseBytes) && len(revisions) == 0 {
		return &Agreement{TooLarge: tooLarge(live)}
	}
	var all []memberHash
	for _, revision := range revisions {
		if all = n.hashes(ctx, a, members, live.MemberID, revision); answered(all) {
			break
		}
	}
	return agreementOf(all)
}

// compactedTo is the revision that the API server has compacted to; 0: it has not.
func compactedTo(ctx context.Context, c *etcd.Client) int64 {
	v, err := c.Get(ctx, kubernetesCompacts)
	if err != nil || v == nil {
		return 0
	}
	revision, err := strconv.ParseInt(string(v.Data), 10, 64)
	if err != nil {
		return 0
	}
	return max(0, revision)
}

// revisionsOf are the revisions to compare members as of, the cheapest first.
func revisionsOf(live *Live, compacted int64, inPassing bool) (revisions []int64) {
	if compacted > 0 {
		revisions = append(revisions, compacted)
	}
	if MayHash(live.InUseBytes) && !inPassing {
		revisions = append(revisions, live.Revision)
	}
	return revisions
}

func tooLarge(live *Live) string {
	return fmt.Sprintf("no API server has compacted this etcd, so each member would have to hash all %s and block "+
		"writes meanwhile; when that is acceptable, compare the output of `etcdctl endpoint hashkv --cluster`",
		engine.Size(live.InUseBytes))
}

// hashes asks all members at once, each at its client URLs. One that has not got that far yet is
// asked again.
func (n *Node) hashes(
	ctx context.Context, access op.Access, members []etcd.Member, own uint64, revision int64,
) []memberHash {
	all := make([]memberHash, len(members))
	engine.Concurrently(len(members), func(i int) {
		m := members[i]
		all[i] = memberHash{name: MemberName(Member{Name: m.Name, PeerURLs: m.PeerURLs}), own: m.ID == own}
		a := access
		if !all[i].own {
			a = access.At(m.ClientURLs...)
		}
		for try := 0; ; try++ {
			all[i].hash, all[i].err = n.hashAt(ctx, a, m, revision)
			if all[i].err == nil || try == 3 || n.Clock.Sleep(ctx, time.Second) != nil {
				return
			}
		}
	})
	return all
}

func (n *Node) hashAt(ctx context.Context, a op.Access, m etcd.Member, revision int64) (etcd.Hash, error) {
	switch {
	case m.IsLearner:
		return etcd.Hash{}, fmt.Errorf("it is a learner, which computes no hash")
	case len(a.Endpoints) == 0:
		return etcd.Hash{}, fmt.Errorf("it has not started yet")
	}
	c, err := n.Dialer().Dial(ctx, a)
	if err != nil {
		return etcd.Hash{}, err
	}
	defer c.Close()
	return c.HashKV(ctx, c.Endpoint(), revision)
}

// answered says whether all members that can be compared were.
func answered(all []memberHash) bool {
	return !slices.ContainsFunc(all, func(m memberHash) bool {
		return m.err != nil && strings.Contains(m.err.Error(), "compacted")
	})
}

// agreementOf compares hashes as of one revision, of data compacted to one: only these must be
// equal.
func agreementOf(all []memberHash) *Agreement {
	a := &Agreement{}
	groups := map[etcd.Hash][]memberHash{}
	for _, m := range all {
		if m.err != nil {
			a.Unasked = append(a.Unasked, fmt.Sprintf("%s: %v", m.name, m.err))
			continue
		}
		groups[m.hash] = append(groups[m.hash], m)
	}
	// A member that was just compacted further hashed something else: that says nothing.
	compacted := map[int64]bool{}
	for hash := range groups {
		compacted[hash.CompactRevision] = true
	}
	if len(compacted) > 1 {
		a.Unasked = append(a.Unasked, "they were compacted in the meantime")
		return a
	}
	most, tie := etcd.Hash{}, false
	for hash, group := range groups {
		switch size := len(groups[most]); {
		case len(group) > size:
			most, tie = hash, false
		case len(group) == size && hash != most:
			tie = true
		}
	}
	if len(groups) < 2 {
		return a
	}
	for hash, group := range groups {
		if hash == most && !tie {
			continue
		}
		for _, m := range group {
			a.Differ = append(a.Differ, m.name)
			a.Own = a.Own || m.own
		}
	}
	slices.Sort(a.Differ)
	return a
}
