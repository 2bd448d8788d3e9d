package etcd

import (
	"context"
	"errors"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// Vitals are what a member says at /metrics. It answers there also while it is defragmented, when
// everything that reads its database waits.
type Vitals struct {
	// It copies its database, or is about to. Of two requests at once the first that ends clears
	// this: whether the other has ended, only a read of the database shows.
	Defragmenting bool
	Defrags       int64 // that have ended since it was started
	QuotaBytes    int64 // 0: none
}

// ErrDown says that nothing listens where a member serves its clients: it does not run, so that
// nothing is under way in it.
var ErrDown = errors.New("connection refused: nothing listens there")

// vitalsTimeout bounds one question for them: a machine that writes much is slow to answer.
const vitalsTimeout = 5 * time.Second

// VitalsOf asks a member for them at the URLs of its access, which are all its own, or else at
// further ones, at which it may serve its metrics alone (--listen-metrics-urls). What another
// member says does not count.
func VitalsOf(ctx context.Context, a Access, member uint64, further ...string) (Vitals, error) {
	a.CallTimeout = vitalsTimeout
	return metricsOf(ctx, a, func(text string) (Vitals, error) { return vitalsIn(text, member) }, further)
}

// vitalsIn reads Prometheus' text format, of which these metrics have each one line.
func vitalsIn(text string, member uint64) (v Vitals, err error) {
	inflight := false
	for line := range strings.Lines(text) {
		name, labels, value, ok := sampleIn(line)
		if !ok {
			continue
		}
		switch name {
		case serverID:
			if err := ofMember(labels, member); err != nil {
				return v, err
			}
		case "etcd_disk_defrag_inflight":
			inflight, v.Defragmenting = true, value != 0
		case "etcd_disk_backend_defrag_duration_seconds_count":
			v.Defrags = int64(value)
		case "etcd_server_quota_backend_bytes":
			v.QuotaBytes = max(0, int64(value))
		}
	}
	if !inflight {
		return v, errors.New("does not say whether it is being defragmented")
	}
	return v, nil
}

// LostError says that nobody knows whether a member still does what it was asked to: the connection
// ended before the answer.
type LostError struct{ cause error }

func (e *LostError) Error() string { return e.cause.Error() }
func (e *LostError) Unwrap() error { return e.cause }

// Defragment has one member rewrite its database, and sends the outcome when there is one. Neither
// the end of ctx nor that of the connection stops the server: the outcome is then a [*LostError].
func Defragment(ctx context.Context, a Access) <-chan error {
	done := make(chan error, 1)
	_, _ = snapfile.Beside(func() {
		var err error = &LostError{errors.New("etcdpod failed while it waited for the answer")}
		defer func() { done <- err }()
		err = defragment(ctx, a)
	})
	return done
}

func defragment(ctx context.Context, a Access) error {
	c, err := Dial(ctx, a)
	if err != nil {
		return err
	}
	defer c.Close()
	at, lost := c.Endpoint(), false
	_, err = call(ctx, c, 0, "defragment etcd at "+at,
		at, func(ctx context.Context) (*clientv3.DefragmentResponse, error) {
			r, err := c.v3.Defragment(ctx, at)
			lost = isLost(err)
			return r, err
		})
	if lost {
		return &LostError{err}
	}
	return err
}

// isLost says whether an error is not the server's answer: a proxy that resets a stream has it
// called internal.
func isLost(err error) bool {
	switch codeOf(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func codeOf(err error) codes.Code {
	var known rpctypes.EtcdError
	if errors.As(err, &known) {
		return known.Code()
	}
	return status.Code(err)
}

// A claim is a lease with an id of its own, and without keys: etcd grants an id once at a time, and
// ends the lease by itself when nobody renews it. No revision comes of it, and no client sees it.

// Claim takes a claim. Without an error and false, somebody else has it.
func (c *Client) Claim(ctx context.Context, id int64, ttl time.Duration) (bool, error) {
	_, err := call(ctx, c, c.access.CallTimeout, "take the lock in etcd",
		"", func(ctx context.Context) (*pb.LeaseGrantResponse, error) {
			return pb.NewLeaseClient(c.v3.ActiveConnection()).LeaseGrant(ctx,
				&pb.LeaseGrantRequest{ID: id, TTL: int64(ttl / time.Second)})
		})
	if err != nil && strings.Contains(err.Error(), "lease already exists") {
		return false, nil
	}
	return err == nil, err
}

// ClaimEnds says how long a claim lasts if nobody renews it; 0: nobody has it.
func (c *Client) ClaimEnds(ctx context.Context, id int64) (time.Duration, error) {
	r, err := call(ctx, c, c.access.CallTimeout, "look for the lock in etcd",
		"", func(ctx context.Context) (*clientv3.LeaseTimeToLiveResponse, error) {
			return c.v3.TimeToLive(ctx, clientv3.LeaseID(id))
		})
	if err != nil {
		return 0, err
	}
	return time.Duration(max(0, r.TTL)) * time.Second, nil
}

// ErrClaimLost says that a claim has ended, or is somebody else's by now.
var ErrClaimLost = errors.New("the lock in etcd has ended")

// RenewClaim fails with [ErrClaimLost] if the claim of that length has ended: who takes it after
// that takes another length.
func (c *Client) RenewClaim(ctx context.Context, id int64, ttl time.Duration) error {
	r, err := call(ctx, c, c.access.CallTimeout, "keep the lock in etcd",
		"", func(ctx context.Context) (*clientv3.LeaseKeepAliveResponse, error) {
			return c.v3.KeepAliveOnce(ctx, clientv3.LeaseID(id))
		})
	if errors.Is(err, rpctypes.ErrLeaseNotFound) || err == nil && r.TTL != int64(ttl/time.Second) {
		return ErrClaimLost
	}
	return err
}

// EndClaim ends a claim of that length; that it has ended, or is somebody else's, is no error.
func (c *Client) EndClaim(ctx context.Context, id int64, ttl time.Duration) error {
	_, err := call(ctx, c, c.access.CallTimeout, "release the lock in etcd",
		"", func(ctx context.Context) (*clientv3.LeaseRevokeResponse, error) {
			r, err := c.v3.TimeToLive(ctx, clientv3.LeaseID(id))
			if err != nil || r.TTL < 0 || r.GrantedTTL != int64(ttl/time.Second) {
				return nil, err
			}
			return c.v3.Revoke(ctx, clientv3.LeaseID(id))
		})
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}
