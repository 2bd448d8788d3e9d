package bind

import (
	"context"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// HashStaged is the HashKV of all keys in a db file, as etcd computes it at the latest revision.
func (b Etcd) HashStaged(ctx context.Context, db string, progress func(done, total int64)) (uint32, error) {
	r, err := snapfile.Check(ctx, b.fs.Real(db), snapfile.Options{Raw: true, Progress: progress})
	if err != nil {
		return 0, err
	}
	return r.HashKV, nil
}

// HashKV returns the first endpoint's own hash of the keys up to a revision, and the revision that
// it is compacted to.
func (b Etcd) HashKV(ctx context.Context, a op.Access, revision int64) (hash uint32, compacted int64, err error) {
	c, err := b.Dial(ctx, a)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	h, err := c.HashKV(ctx, c.Endpoints()[0], revision)
	return h.Hash, h.CompactRevision, err
}

// PeerServes checks whether a member's peer port answers.
func (b Etcd) PeerServes(ctx context.Context, a op.Access) error {
	access, err := b.Access(a)
	if err != nil {
		return err
	}
	return etcd.PeerServes(ctx, access)
}

// Listening says whether anything accepts connections at a URL.
func (b Etcd) Listening(ctx context.Context, url string) bool { return etcd.Listening(ctx, url) }

// Started returns what the member at the first endpoint says about itself, which needs no quorum.
func (b Etcd) Started(ctx context.Context, a op.Access) (m op.Answer, err error) {
	err = b.With(ctx, a, func(c *etcd.Client) error {
		s := c.Status(ctx)[0]
		m = op.Answer{ClusterID: s.ClusterID, MemberID: s.MemberID, Leader: s.Leader, Revision: s.Revision,
			Version: s.Version, Storage: s.StorageVersion, Downgrade: s.Downgrade,
			Applied: s.RaftApplied, Committed: s.RaftIndex}
		return s.Err
	})
	return m, err
}

// ClusterVersion is the minor by which the members work together.
func (b Etcd) ClusterVersion(ctx context.Context, a op.Access) (string, error) {
	access, err := b.Access(a)
	if err != nil {
		return "", err
	}
	return etcd.ClusterVersion(ctx, access)
}

// Members returns the members as a quorum knows them.
func (b Etcd) Members(ctx context.Context, a op.Access) (members []op.Member, err error) {
	err = b.With(ctx, a, func(c *etcd.Client) error {
		all, err := c.Members(ctx)
		members = MembersOf(all)
		return err
	})
	return members, err
}

// Learner returns how far the member at own has come, and what the voting members say.
func (b Etcd) Learner(ctx context.Context, own, voters op.Access) (l op.Learner, err error) {
	err = b.With(ctx, voters, func(c *etcd.Client) error {
		for _, s := range c.Status(ctx) {
			if s.Err == nil {
				l.Committed, l.LeaderBytes = max(l.Committed, s.RaftIndex), max(l.LeaderBytes, s.SizeBytes)
			}
		}
		return nil
	})
	if err != nil {
		return l, err
	}
	err = b.With(ctx, own, func(c *etcd.Client) error {
		s := c.Status(ctx)[0]
		l.ClusterID, l.Applied, l.SizeBytes = s.ClusterID, s.RaftApplied, s.SizeBytes
		return s.Err
	})
	if err != nil {
		return l, err
	}
	access, err := b.Access(own)
	if err != nil {
		return l, err
	}
	l.Failing, err = etcd.Failing(ctx, access)
	return l, err
}

// AddLearner adds a learner and returns its id.
func (b Etcd) AddLearner(ctx context.Context, a op.Access, peerURLs []string) (id op.ID, err error) {
	err = b.With(ctx, a, func(c *etcd.Client) error {
		added, err := c.AddLearner(ctx, peerURLs)
		id = op.ID(added)
		return err
	})
	return id, err
}

// PromoteLearner makes a learner a voting member. etcd refuses until the learner has 90 % of what
// the leader has.
func (b Etcd) PromoteLearner(ctx context.Context, a op.Access, member op.ID) error {
	return b.With(ctx, a, func(c *etcd.Client) error { return c.PromoteLearner(ctx, uint64(member)) })
}

// RemoveMember removes a member. It is no error if there is none with that id.
func (b Etcd) RemoveMember(ctx context.Context, a op.Access, member op.ID) error {
	return b.With(ctx, a, func(c *etcd.Client) error { return c.RemoveMember(ctx, uint64(member)) })
}

// MoveLeader has the leader, at the first endpoint, hand over to another voter.
func (b Etcd) MoveLeader(ctx context.Context, leader op.Access, to op.ID) error {
	return b.With(ctx, leader, func(c *etcd.Client) error { return c.MoveLeader(ctx, uint64(to)) })
}

// SetPeerURLs changes at which URLs the other members reach one.
func (b Etcd) SetPeerURLs(ctx context.Context, a op.Access, member op.ID, urls []string) error {
	return b.With(ctx, a, func(c *etcd.Client) error { return c.SetPeerURLs(ctx, uint64(member), urls) })
}

// With calls do with a connected client.
func (b Dialer) With(ctx context.Context, a op.Access, do func(*etcd.Client) error) error {
	c, err := b.Dial(ctx, a)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}

// MembersOf converts members to the form that operations and sidecars use.
func MembersOf(list []etcd.Member) []op.Member {
	var members []op.Member
	for _, m := range list {
		members = append(members, op.Member{ID: op.ID(m.ID),
			Name: m.Name, PeerURLs: m.PeerURLs, IsLearner: m.IsLearner})
	}
	return members
}
