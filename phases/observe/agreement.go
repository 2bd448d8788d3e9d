package observe

import (
	"context"
	"errors"
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
	// How many members had a hash as of the same revisions, so that these could be compared; 0:
	// none could. Hash is that of this node's member, if it is one of them.
	Compared int
	Hash     etcd.Hash
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
// writes wait, 0.35 s for a GB. A hash as of a compacted revision costs nothing: each compaction
// computes it in passing, and etcd keeps the last ten (server/storage/mvcc/hash.go).
const mostHashed = 1 << 30

// MayHash says whether a member with this much in use may be made to hash it all.
func MayHash(inUseBytes int64) bool { return inUseBytes <= mostHashed }

// HashesAtOnce says whether nobody notices when a member hashes all that: it takes 3 ms.
func HashesAtOnce(inUseBytes int64) bool { return inUseBytes <= 8<<20 }

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
	if inPassing {
		return n.agreeInPassing(ctx, a, live, members)
	}
	revisions := revisionsOf(live, compactedTo(ctx, c))
	if len(revisions) == 0 {
		return &Agreement{TooLarge: tooLarge(live)}
	}
	var agreed *Agreement
	for _, revision := range revisions {
		all := n.hashes(ctx, a, members, live.MemberID, revision, hashTries)
		agreed = agreementOf(all)
		if answering := hashed(all); answered(all) && (answering < 2 || agreed.Compared == answering) {
			break
		}
	}
	return agreed
}

// hashTries are for a member that has not got that far yet.
const hashTries = 4

// agreeInPassing asks only for what the members have computed already: each as of the newest
// revision that all have compacted to. One that was restarted since its last compaction would have
// to hash all it holds.
func (n *Node) agreeInPassing(ctx context.Context, a op.Access, live *Live, members []etcd.Member) *Agreement {
	asked, revision, unasked := members[:0:0], int64(0), []string{}
	figures := n.figuresOf(ctx, a, members, live.MemberID)
	for i, f := range figures {
		if why := notAtOnce(f, live.InUseBytes); why != "" {
			unasked = append(unasked, nameOf(members[i])+": "+why)
			continue
		}
		if asked = append(asked, members[i]); revision == 0 || f.CompactRevision < revision {
			revision = f.CompactRevision
		}
	}
	if len(asked) < 2 {
		agreed := &Agreement{Unasked: unasked}
		if !MayHash(live.InUseBytes) && neverCompacted(figures) {
			agreed.TooLarge = tooLarge(live)
		}
		return agreed
	}
	agreed := agreementOf(n.hashes(ctx, a, asked, live.MemberID, revision, 1))
	agreed.Unasked = append(unasked, agreed.Unasked...)
	return agreed
}

// memberFigures are what a member says at /metrics, or why it does not.
type memberFigures struct {
	etcd.Figures
	err error
}

// figuresOf asks all members at once, each at its client URLs.
func (n *Node) figuresOf(ctx context.Context, access op.Access, members []etcd.Member, own uint64) []memberFigures {
	all := make([]memberFigures, len(members))
	engine.Concurrently(len(members), func(i int) {
		a := access
		if members[i].ID != own {
			a = access.At(members[i].ClientURLs...)
		}
		if len(a.Endpoints) == 0 {
			all[i].err = errors.New("it has not started yet")
			return
		}
		real, err := n.Dialer().Access(a)
		if err == nil {
			all[i].Figures, err = etcd.FiguresOf(ctx, real, members[i].ID)
		}
		all[i].err = err
	})
	return all
}

// notAtOnce is why a member with that much in use cannot say at once what it holds; empty: it can.
func notAtOnce(f memberFigures, inUseBytes int64) string {
	switch {
	case f.err != nil:
		return f.err.Error()
	case f.CompactRevision <= 0:
		return "nothing has compacted it yet"
	case f.Compactions == 0 && !HashesAtOnce(inUseBytes):
		const perGB = 0.35 // seconds
		return fmt.Sprintf("it has not compacted since it was started, and would have to hash all %s, while its "+
			"writes wait for about %.2f s: `etcdctl endpoint hashkv --cluster` does that", engine.Size(inUseBytes),
			perGB*float64(inUseBytes)/1e9)
	}
	return ""
}

// neverCompacted says whether no member that says anything has ever compacted.
func neverCompacted(all []memberFigures) bool {
	said := slices.DeleteFunc(slices.Clone(all), func(f memberFigures) bool { return f.err != nil })
	return len(said) > 0 &&
		!slices.ContainsFunc(said, func(f memberFigures) bool { return f.CompactRevision > 0 })
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
func revisionsOf(live *Live, compacted int64) (revisions []int64) {
	if compacted > 0 {
		revisions = append(revisions, compacted)
	}
	if MayHash(live.InUseBytes) {
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
	ctx context.Context, access op.Access, members []etcd.Member, own uint64, revision int64, tries int,
) []memberHash {
	all := make([]memberHash, len(members))
	engine.Concurrently(len(members), func(i int) {
		m := members[i]
		all[i] = memberHash{name: nameOf(m), own: m.ID == own}
		a := access
		if !all[i].own {
			a = access.At(m.ClientURLs...)
		}
		for try := 1; ; try++ {
			all[i].hash, all[i].err = n.hashAt(ctx, a, m, revision)
			if all[i].err == nil || try == tries || n.Clock.Sleep(ctx, time.Second) != nil {
				return
			}
		}
	})
	return all
}

func nameOf(m etcd.Member) string { return MemberName(Member{Name: m.Name, PeerURLs: m.PeerURLs}) }

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

// hashed is how many members gave a hash.
func hashed(all []memberHash) (n int) {
	for _, m := range all {
		if m.err == nil {
			n++
		}
	}
	return n
}

// as is what a hash is of: the newest revision in it, and that which was compacted to. Only hashes
// of the same must be equal. etcd 3.5 does not say the first, which is then the one asked for.
type as struct{ revision, compacted int64 }

// agreementOf compares hashes: of those that can be compared, the most.
func agreementOf(all []memberHash) *Agreement {
	a, groups := &Agreement{}, map[as][]memberHash{}
	var most as
	for _, m := range all {
		if m.err != nil {
			a.Unasked = append(a.Unasked, fmt.Sprintf("%s: %v", m.name, m.err))
			continue
		}
		of := as{m.hash.Revision, m.hash.CompactRevision}
		if groups[of] = append(groups[of], m); len(groups[of]) > len(groups[most]) {
			most = of
		}
	}
	for of, group := range groups {
		if of == most && len(group) > 1 || hashed(all) < 2 {
			continue
		}
		for _, m := range group {
			a.Unasked = append(a.Unasked, m.name+": it has compacted to another revision in the meantime, or was "+
				"restarted since its last compaction")
		}
	}
	slices.Sort(a.Unasked)
	if len(groups[most]) > 1 {
		a.Compared = len(groups[most])
		for _, m := range groups[most] {
			if m.own {
				a.Hash = m.hash
			}
		}
		a.differ(groups[most])
	}
	return a
}

// differ finds those that differ from most, or all where there is no most.
func (a *Agreement) differ(all []memberHash) {
	groups := map[uint32][]memberHash{}
	for _, m := range all {
		groups[m.hash.Hash] = append(groups[m.hash.Hash], m)
	}
	if len(groups) < 2 {
		return
	}
	most, tie := uint32(0), false
	for hash, group := range groups {
		switch size := len(groups[most]); {
		case len(group) > size:
			most, tie = hash, false
		case len(group) == size && hash != most:
			tie = true
		}
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
}
