package etcd

import (
	"errors"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What etcd does by itself is no write, although it moves the revision: a lease that came with a
// snapshot ends, and takes its key along. Whatever a client does is one.
func TestOnlyWhatClientsWriteCountsAsWritten(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			from := newServer(t, "a").start(version).await()
			ctx := t.Context()
			lease, err := from.client().v3.Grant(ctx, 1)
			if err == nil {
				_, err = from.client().v3.Put(ctx, "/leased", "1", clientv3.WithLease(lease.ID))
			}
			if err != nil {
				t.Fatal(err)
			}
			snapshot := snapshotOf(t, from)
			s := newServer(t, "restored")
			if _, err := Stage(ctx, s.spec(snapshot.Path, fileSHA256(t, snapshot.Path))); err != nil {
				t.Fatal(err)
			}
			log := filepath.Join(s.Dir, "member/wal")
			expect := func(when string, want int) {
				t.Helper()
				if writes, err := Written(log); err != nil || writes != want {
					t.Errorf("%s: %d writes, and not %d: %v", when, writes, want, err)
				}
			}
			expect("staged", 0)
			s.start(version).await()
			c := s.client().v3
			eventually(t, func() error {
				left, err := c.Leases(ctx)
				if err == nil && len(left.Leases) > 0 {
					err = errors.New("there is a lease yet")
				}
				return err
			})
			expect("the lease has ended", 0)
			for i, write := range []func() error{
				func() error { _, err := c.Put(ctx, "/a", "1"); return err },
				func() error {
					_, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision("/b"), "=", 0)).
						Then(clientv3.OpPut("/b", "1")).Commit()
					return err
				},
				func() error { _, err := c.Delete(ctx, "/a"); return err },
			} {
				if err := write(); err != nil {
					t.Fatal(err)
				}
				expect("while it runs", i+1)
			}
			s.kill()
			expect("when it was killed", 3)
		})
	}
}
