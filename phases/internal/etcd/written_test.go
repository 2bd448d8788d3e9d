package etcd

import (
	"errors"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
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

// A write that is known is one, also before what nobody here can read.
func TestAWriteBeforeAnUnknownRequestCounts(t *testing.T) {
	put, err := proto.Marshal(&pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte("/a"), Value: []byte("1")}})
	if err != nil {
		t.Fatal(err)
	}
	unknown := []byte("\xff\xff\xff")
	for name, tt := range map[string]struct {
		requests [][]byte
		want     int
		known    bool
	}{
		"none":               {nil, 0, true},
		"a write":            {[][]byte{put}, 1, true},
		"an unknown request": {[][]byte{unknown}, 0, false},
		"a write before one": {[][]byte{put, unknown}, 1, true},
		"a write behind one": {[][]byte{unknown, put, put}, 2, true},
	} {
		l := newLog(t)
		var entries []*raftpb.Entry
		for i, data := range tt.requests {
			entries = append(entries, &raftpb.Entry{Index: proto.Uint64(uint64(i + 1)), Term: proto.Uint64(1),
				Type: raftpb.EntryNormal.Enum(), Data: data})
		}
		commit := uint64(len(entries))
		state := &raftpb.HardState{Commit: proto.Uint64(commit), Term: proto.Uint64(1), Vote: proto.Uint64(7)}
		if err := errors.Join(l.w.Save(state, entries), l.w.Close()); err != nil {
			t.Fatal(err)
		}
		if writes, err := Written(l.dir); writes != tt.want || (err == nil) != tt.known {
			t.Errorf("%s: %d writes, and not %d: %v", name, writes, tt.want, err)
		}
	}
}
