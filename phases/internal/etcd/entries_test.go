package etcd

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestEveryVersionTellsWhichEntriesHaveALease(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := newServer(t, "a").start(version).await().client()
			lease, err := c.v3.Grant(t.Context(), 60)
			if err != nil {
				t.Fatal(err)
			}
			for key, opts := range map[string][]clientv3.OpOption{"/m/a": {clientv3.WithLease(lease.ID)}, "/m/b": nil} {
				if _, err := c.v3.Put(t.Context(), key, "x", opts...); err != nil {
					t.Fatal(err)
				}
			}
			for _, own := range []bool{false, true} {
				got, err := c.Entries(t.Context(), "/m/", own)
				granted := time.Minute
				if own {
					granted = 0
				}
				if err != nil || len(got) != 2 || got[0] != (Entry{"a", true, granted}) ||
					got[1] != (Entry{Name: "b"}) {
					t.Errorf("%+v, %v", got, err)
				}
			}
		})
	}
}
