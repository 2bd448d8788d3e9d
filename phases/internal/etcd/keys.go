package etcd

import (
	"context"
	"errors"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Value is one key's value.
type Value struct {
	Key         string
	Data        []byte
	ModRevision int64
}

// Get reads one key, linearizably. The value is nil for a missing key.
func (c *Client) Get(ctx context.Context, key string) (*Value, error) {
	return c.ValueAt(ctx, key, 0)
}

// Values reads the keys that begin with prefix, which are to be few; own asks the first endpoint
// alone, without a quorum.
func (c *Client) Values(ctx context.Context, prefix string, own bool) ([]Value, error) {
	opts := []clientv3.OpOption{clientv3.WithPrefix()}
	if own {
		opts = append(opts, clientv3.WithSerializable())
	}
	r, err := call(ctx, c, c.access.CallTimeout, "read what is below "+prefix,
		"", func(ctx context.Context) (*clientv3.GetResponse, error) { return c.v3.Get(ctx, prefix, opts...) })
	if err != nil {
		return nil, err
	}
	values := make([]Value, len(r.Kvs))
	for i, kv := range r.Kvs {
		values[i] = Value{Key: string(kv.Key), Data: kv.Value, ModRevision: kv.ModRevision}
	}
	return values, nil
}

// Revision returns the cluster's revision, read linearizably.
func (c *Client) Revision(ctx context.Context) (int64, error) {
	r, err := call(ctx, c, c.access.CallTimeout, "read etcd's revision",
		"", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return c.v3.Get(ctx, "revision", clientv3.WithCountOnly())
		})
	if err != nil {
		return 0, err
	}
	return r.Header.Revision, nil
}

// Count returns the number of keys that begin with prefix; all keys for "". Only
// ctx bounds the time.
func (c *Client) Count(ctx context.Context, prefix string) (int64, error) {
	return c.CountAt(ctx, prefix, 0)
}

// CountAt is [Client.Count] as of a revision; 0 is now.
func (c *Client) CountAt(ctx context.Context, prefix string, revision int64) (int64, error) {
	r, err := call(ctx, c, 0, "count keys", "", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return c.v3.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly(), clientv3.WithRev(revision))
	})
	if err != nil {
		return 0, err
	}
	return r.Count, nil
}

// Entry is one key, without its prefix.
type Entry struct {
	Name   string
	Leased bool // the key goes when its lease ends
	// For how long the lease was granted, if nobody renews it; 0: it was not asked.
	For time.Duration
}

// Entries is [Client.Keys] with what becomes of them; own asks the first endpoint alone, without a
// quorum, which nothing can be known of leases without.
func (c *Client) Entries(ctx context.Context, prefix string, own bool) ([]Entry, error) {
	// With their values: of keys alone, etcd 3.7 does not tell the lease.
	opts := []clientv3.OpOption{clientv3.WithPrefix()}
	if own {
		opts = append(opts, clientv3.WithSerializable())
	}
	r, err := call(ctx, c, c.access.CallTimeout, "list keys",
		"", func(ctx context.Context) (*clientv3.GetResponse, error) { return c.v3.Get(ctx, prefix, opts...) })
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(r.Kvs))
	for i, kv := range r.Kvs {
		entries[i] = Entry{Name: strings.TrimPrefix(string(kv.Key), prefix), Leased: kv.Lease != 0}
		if !entries[i].Leased || own {
			continue
		}
		l, err := call(ctx, c, c.access.CallTimeout, "look at a lease",
			"", func(ctx context.Context) (*clientv3.LeaseTimeToLiveResponse, error) {
				return c.v3.TimeToLive(ctx, clientv3.LeaseID(kv.Lease))
			})
		if err != nil {
			return nil, err
		}
		// A lease that is gone will not end again.
		entries[i].Leased, entries[i].For = l.TTL >= 0, time.Duration(max(0, l.GrantedTTL))*time.Second
	}
	return entries, nil
}

// Keys returns the keys that begin with prefix, without it.
func (c *Client) Keys(ctx context.Context, prefix string) ([]string, error) {
	r, err := call(ctx, c, c.access.CallTimeout, "list keys",
		"", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return c.v3.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		})
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(r.Kvs))
	for i, kv := range r.Kvs {
		keys[i] = strings.TrimPrefix(string(kv.Key), prefix)
	}
	return keys, nil
}

// page is how many keys one request asks for.
const page = 5000

// Changes is what became of the objects of a resource since a revision. Of those that were deleted
// nothing is left to count.
type Changes struct{ Now, Made, Changed int64 }

// ErrManyKeys says that there are more keys than were to be read.
var ErrManyKeys = errors.New("etcd holds more keys than would be read")

// Since counts what is stored now of each Kubernetes resource below /registry/, under the names in
// a snapshot's report, and what of it was made or changed after a revision. It transfers only keys,
// a page at a time, all at one revision, and nothing if there are more than limit. Only ctx bounds
// the time.
func (c *Client) Since(ctx context.Context, after, limit int64) (map[string]Changes, error) {
	counts := map[string]Changes{}
	err := c.objects(ctx, 0, page, func(r *clientv3.GetResponse) error {
		if len(counts) == 0 && r.Count > limit { // the first page
			return ErrManyKeys
		}
		for _, kv := range r.Kvs {
			name := resource(strings.TrimPrefix(string(kv.Key), registry))
			is := counts[name]
			is.Now++
			switch {
			case kv.CreateRevision > after:
				is.Made++
			case kv.ModRevision > after:
				is.Changed++
			}
			counts[name] = is
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return counts, nil
}

// ResourcesAt counts the objects of each Kubernetes resource below /registry/ as of a revision, as
// [Client.Since] does, so many keys at a time: of each the server reads the value, too. progress
// gets keys.
func (c *Client) ResourcesAt(
	ctx context.Context, revision, atOnce int64, progress func(done, total int64),
) (map[string]int64, error) {
	counts, done, total := map[string]int64{}, int64(0), int64(0)
	err := c.objects(ctx, revision, atOnce, func(r *clientv3.GetResponse) error {
		total = max(total, r.Count) // of the first page: later ones count what is left
		for _, kv := range r.Kvs {
			counts[resource(strings.TrimPrefix(string(kv.Key), registry))]++
		}
		done += int64(len(r.Kvs))
		progress(done, total)
		return nil
	})
	return counts, err
}

const registry = "/registry/"

// objects goes through the keys below /registry/, without their values, all at one revision; 0:
// that of now.
func (c *Client) objects(
	ctx context.Context, revision, atOnce int64, visit func(*clientv3.GetResponse) error,
) error {
	from, end := registry, clientv3.GetPrefixRangeEnd(registry)
	for {
		r, err := call(ctx, c, 0, "count the objects in etcd",
			"", func(ctx context.Context) (*clientv3.GetResponse, error) {
				return c.v3.Get(ctx, from, clientv3.WithRange(end),
					clientv3.WithKeysOnly(), clientv3.WithLimit(atOnce), clientv3.WithRev(revision))
			})
		if err != nil {
			return err
		}
		if revision == 0 {
			revision = r.Header.Revision
		}
		if err := visit(r); err != nil || !r.More {
			return err
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}

// ValueAt reads one key as of a revision; the value is nil for a missing key.
func (c *Client) ValueAt(ctx context.Context, key string, revision int64) (*Value, error) {
	r, err := call(ctx, c, c.access.CallTimeout, "read "+key,
		"", func(ctx context.Context) (*clientv3.GetResponse, error) {
			return c.v3.Get(ctx, key, clientv3.WithRev(revision))
		})
	if err != nil || len(r.Kvs) == 0 {
		return nil, err
	}
	return &Value{Key: key, Data: r.Kvs[0].Value, ModRevision: r.Kvs[0].ModRevision}, nil
}

// resource names what is stored at a path below /registry/, as snapfile does (a
// test compares them).
func resource(path string) string {
	first, rest, _ := strings.Cut(path, "/")
	second, _, below := strings.Cut(rest, "/")
	switch {
	case first == "services" && second == "endpoints":
		return second
	case first == "minions":
		return "nodes"
	case first == "controllers":
		return "replicationcontrollers"
	case first == "ingress":
		return "ingresses"
	case strings.Contains(first, ".") && below:
		return second + "." + first
	}
	return first
}
