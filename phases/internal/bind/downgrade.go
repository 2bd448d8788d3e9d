package bind

import (
	"context"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Downgrading is the version that a downgrade goes to which has not ended; empty: there is none.
func (b Etcd) Downgrading(ctx context.Context, a op.Access) (target string, err error) {
	err = b.With(ctx, a, func(c *etcd.Client) (err error) {
		target, err = c.Downgrading(ctx)
		return err
	})
	return target, err
}

// ValidateDowngrade asks whether etcd would let a downgrade begin.
func (b Etcd) ValidateDowngrade(ctx context.Context, a op.Access, target string) error {
	return b.With(ctx, a, func(c *etcd.Client) error { return c.ValidateDowngrade(ctx, target) })
}

// EnableDowngrade begins a downgrade.
func (b Etcd) EnableDowngrade(ctx context.Context, a op.Access, target string) error {
	return b.With(ctx, a, func(c *etcd.Client) error { return c.EnableDowngrade(ctx, target) })
}

// CancelDowngrade takes a downgrade back. It is no error if there is none.
func (b Etcd) CancelDowngrade(ctx context.Context, a op.Access) error {
	return b.With(ctx, a, func(c *etcd.Client) error { return c.CancelDowngrade(ctx) })
}
