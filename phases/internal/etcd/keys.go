package etcd

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Value is one key's value.
type Value struct {
	Data        []byte
	ModRevision int64
}

// Get reads one key, linearizably. The value is nil when the key is not there.
func (c *Client) Get(ctx context.Context, key string) (*Value, error) {
	r, err := call(ctx, c, c.access.CallTimeout, "read "+key, "", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return c.v3.Get(ctx, key)
	})
	if err != nil || len(r.Kvs) == 0 {
		return nil, err
	}
	return &Value{Data: r.Kvs[0].Value, ModRevision: r.Kvs[0].ModRevision}, nil
}

// Revision returns the cluster's revision, read linearizably.
func (c *Client) Revision(ctx context.Context) (int64, error) {
	r, err := call(ctx, c, c.access.CallTimeout, "read etcd's revision", "", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return c.v3.Get(ctx, "revision", clientv3.WithCountOnly())
	})
	if err != nil {
		return 0, err
	}
	return r.Header.Revision, nil
}

// Count returns the number of keys that begin with prefix; all keys for "". The time is bounded by ctx only.
func (c *Client) Count(ctx context.Context, prefix string) (int64, error) {
	r, err := call(ctx, c, 0, "count keys", "", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return c.v3.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	})
	if err != nil {
		return 0, err
	}
	return r.Count, nil
}
