package phases

import (
	"context"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// What a restore on several nodes asks of etcd besides.

func (b boundEtcd) HashStaged(ctx context.Context, db string, progress func(done, total int64)) (uint32, error) {
	r, err := snapfile.Check(ctx, b.fs.Real(db), snapfile.Options{Raw: true, Progress: progress})
	if err != nil {
		return 0, err
	}
	return r.HashKV, nil
}

func (b boundEtcd) HashKV(ctx context.Context, a op.Access, revision int64) (hash uint32, compacted int64, err error) {
	c, err := b.dial(ctx, a)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	h, err := c.HashKV(ctx, a.Endpoints[0], revision)
	return h.Hash, h.CompactRevision, err
}

func (b boundEtcd) PeerServes(ctx context.Context, a op.Access) error {
	access, err := b.access(a)
	if err != nil {
		return err
	}
	return etcd.PeerServes(ctx, access)
}

func (b boundEtcd) Listening(ctx context.Context, url string) bool { return etcd.Listening(ctx, url) }

func (b boundEtcd) AddLearner(ctx context.Context, a op.Access, peerURLs []string) error {
	return b.with(ctx, a, func(c *etcd.Client) error { return c.AddLearner(ctx, peerURLs) })
}

func (b boundEtcd) PromoteLearner(ctx context.Context, a op.Access, peerURL string) error {
	return b.with(ctx, a, func(c *etcd.Client) error { return c.PromoteLearner(ctx, peerURL) })
}

func (b boundEtcd) RemoveLearner(ctx context.Context, a op.Access, peerURL string) error {
	return b.with(ctx, a, func(c *etcd.Client) error { return c.RemoveLearner(ctx, peerURL) })
}

func (b boundEtcd) with(ctx context.Context, a op.Access, do func(*etcd.Client) error) error {
	c, err := b.dial(ctx, a)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}
