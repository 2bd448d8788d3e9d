package etcd

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// How etcd goes down by one minor: it is enabled, the leader lowers the version of the cluster, and
// each member that of its data; then the members are replaced, and the leader ends it.

// ValidateDowngrade asks whether etcd would let a downgrade to a version such as 3.6.0 begin. It
// changes nothing.
func (c *Client) ValidateDowngrade(ctx context.Context, target string) error {
	return c.downgrade(ctx, "validate the downgrade to "+target, clientv3.DowngradeValidate, target)
}

// EnableDowngrade begins one. etcd validates it first.
func (c *Client) EnableDowngrade(ctx context.Context, target string) error {
	return c.downgrade(ctx, "enable the downgrade to "+target, clientv3.DowngradeEnable, target)
}

// CancelDowngrade takes one back. It is no error if there is none.
func (c *Client) CancelDowngrade(ctx context.Context) error {
	err := c.downgrade(ctx, "cancel the downgrade", clientv3.DowngradeCancel, "")
	if errors.Is(err, rpctypes.ErrNoInflightDowngrade) {
		return nil
	}
	return err
}

func (c *Client) downgrade(ctx context.Context, what string, do clientv3.DowngradeAction, target string) error {
	_, err := call(ctx, c, c.access.CallTimeout, what,
		"", func(ctx context.Context) (*clientv3.DowngradeResponse, error) {
			return c.v3.Downgrade(ctx, do, target)
		})
	return err
}

// Downgrading is the version that a downgrade goes to which has not ended; empty: there is none.
// Etcd 3.5 does not report it, and tells it when it is asked whether another one may begin.
func (c *Client) Downgrading(ctx context.Context) (string, error) {
	s := c.status(ctx, c.access.Endpoints[0])
	if s.Err != nil || s.StorageVersion != "" {
		return s.Downgrade, s.Err
	}
	err := c.ValidateDowngrade(ctx, "3.4.0")
	switch {
	case errors.Is(err, rpctypes.ErrDowngradeInProcess):
		return "3.5.0", nil
	case errors.Is(err, rpctypes.ErrInvalidDowngradeTargetVersion):
		return "", nil // the version of the cluster is another, which it checks first
	}
	return "", err
}
