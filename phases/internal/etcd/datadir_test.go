package etcd

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// unflushed keeps etcd from writing to its db unless it must: only the log has the data.
var unflushed = []string{"--backend-batch-interval", "1h", "--backend-batch-limit",
	"1000000", "--snapshot-count", "1000000"}

// churn does one of everything that goes through raft, n puts among it, and returns the
// revision. Only the early writes are flushed to the db: a compaction and an expiring
// lease make etcd do that.
func (s *server) churn(n int) int64 {
	s.t.Helper()
	s.put("/registry/pods/default/early", 50, 200)
	s.put("/registry/pods/default/early", 50, 200)
	ctx, c := s.t.Context(), s.client().v3
	must := func(err error) {
		if err != nil {
			s.t.Fatal(err)
		}
	}
	gone, err := c.Grant(ctx, 3600)
	must(err)
	_, err = c.Put(ctx, "/revoked", "1", clientv3.WithLease(gone.ID))
	must(err)
	_, err = c.Revoke(ctx, gone.ID)
	must(err)
	_, err = c.Compact(ctx, 90)
	must(err)
	s.put("/registry/pods/default/p", n, 200)
	lease, err := c.Grant(ctx, 3600)
	must(err)
	_, err = c.Put(ctx, "/leased", "1", clientv3.WithLease(lease.ID))
	must(err)
	_, err = c.Delete(ctx, "/registry/pods/default/p0000", clientv3.WithPrefix())
	must(err)
	for i := range 5 { // as the API server writes: only if the revision is unchanged
		key := fmt.Sprintf("/registry/pods/default/p%06d", 100+i)
		_, err = c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), ">", 0)).Then(clientv3.OpPut(key, "updated"),
			clientv3.OpPut(key+"-2", "new")).
			Else(clientv3.OpPut(key, "wrong")).Commit()
		must(err)
	}
	_, err = c.Txn(ctx).If(clientv3.Compare(clientv3.Version("/absent"), ">", 0)).
		Then(clientv3.OpPut("/absent", "wrong")).Commit()
	must(err)
	revision, err := s.client().Revision(ctx)
	must(err)
	return revision
}

// bootFrom stages a snapshot made from a data directory and starts an etcd on it.
func bootFrom(t *testing.T, made *FromDataDir, version string) *server {
	t.Helper()
	s := newServer(t, "restored")
	if _, err := Stage(t.Context(), s.spec(made.Path, made.SHA256)); err != nil {
		t.Fatal(err)
	}
	return s.start(version).await()
}

// tree returns the names, sizes and times of all files below a directory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		all[path] = fmt.Sprint(info.Mode(), info.ModTime(), info.Size())
		if err == nil && info.Mode().IsRegular() && info.Size() < 1<<26 {
			all[path] += fileSHA256(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEveryAcknowledgedWriteOfAKilledMemberIsInTheSnapshot(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "a").start(version, unflushed...).await()
			revision := s.churn(2000)
			want := s.contents()
			s.kill()
			before := tree(t, s.Dir)

			d, err := Inspect(t.Context(), s.Dir, "")
			if err != nil {
				t.Fatal(err)
			}
			if d.Pending() < 2000 || d.Contents.Revision > 110 ||
				d.RevisionAtMost < revision || d.Follower || d.Removed || d.Voters != 1 || d.Damage != nil {
				t.Errorf("%d entries pending, db at %d, at most %d (really %d); %+v",
					d.Pending(), d.Contents.Revision, d.RevisionAtMost, revision, d)
			}
			if len(d.Members) != 1 || d.Members[0].ID != d.MemberID || d.Members[0].PeerURLs[0] != s.PeerURL {
				t.Errorf("members %+v of %x", d.Members, d.MemberID)
			}
			out := filepath.Join(t.TempDir(), "out.db")
			made, err := SnapshotFromDataDir(t.Context(), s.Dir, "", out, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(before, tree(t, s.Dir)) {
				t.Error("the source was changed")
			}
			if made.Revision != revision || made.SHA256 != fileSHA256(t, out) ||
				len(made.Caveats) != 0 || made.StorageVersion != d.Contents.StorageVersion {
				t.Errorf("revision %d, want %d; storage version %q, the db's is %q; %v",
					made.Revision, revision, made.StorageVersion, d.Contents.StorageVersion, made.Caveats)
			}
			if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 || info.Size() != made.SizeBytes {
				t.Errorf("%v, %v", info, err)
			}
			b := bootFrom(t, made, version)
			if got := b.contents(); !maps.Equal(got, want) {
				t.Errorf("%d keys, want %d with the same values", len(got), len(want))
			}
			s.start(version).await() // etcd itself applies its log
			oracle, err := s.client().HashKV(t.Context(), s.Endpoint, revision)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := b.client().HashKV(t.Context(), b.Endpoint, revision); err != nil || got != oracle {
				t.Errorf("hash %+v, %v; etcd's own on the same directory %+v", got, err, oracle)
			}
			leases, err := b.client().v3.Leases(t.Context())
			if err != nil || len(leases.Leases) != 1 {
				t.Errorf("leases %v, %v", leases, err)
			}
		})
	}
}

func TestADataDirectoryInUseIsRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t, "a").start("3.7.3").await()
	if _, err := Inspect(t.Context(), s.Dir, ""); !errors.Is(err, ErrInUse) {
		t.Errorf("inspect: %v", err)
	}
	out := filepath.Join(t.TempDir(), "out.db")
	if _, err := SnapshotFromDataDir(t.Context(), s.Dir, "", out, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("snapshot: %v", err)
	}
	if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file is left")
	}
	s.stop()
	if _, err := Inspect(t.Context(), s.Dir, ""); err != nil {
		t.Errorf("after a stop in order: %v", err)
	}
	if _, err := Inspect(t.Context(), filepath.Join(s.Dir, "absent"), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	log, elsewhere := filepath.Join(s.Dir, "member", "wal"), filepath.Join(t.TempDir(), "wal")
	if err := os.Rename(log, elsewhere); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(t.Context(), s.Dir, ""); !errors.Is(err, ErrNoWAL) {
		t.Errorf("a log that is elsewhere: %v", err)
	}
	if _, err := Inspect(t.Context(), s.Dir, t.TempDir()); !errors.Is(err, ErrNoWAL) {
		t.Errorf("an empty directory for the log: %v", err)
	}
	if _, err := Inspect(t.Context(), s.Dir, elsewhere); err != nil {
		t.Errorf("the log where it is: %v", err)
	}
}

func TestALogThatIsNotWholeGivesItsValidPartAndTheRestIsNamed(t *testing.T) {
	t.Parallel()
	s := newServer(t, "a").start("3.6.16", unflushed...).await()
	s.put("/before", 500, 100)
	middle := walEnd(t, s)
	s.put("/later", 500, 100)
	next := recordBehind(t, s, middle)
	last := (walEnd(t, s) + 7) &^ 7
	s.put("/later/last", 1, 2000) // a record of several sectors
	end := walEnd(t, s)
	s.kill()
	flip := func(f *os.File, at int64) {
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0xff
		if _, err := f.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
	zero := func(f *os.File, from, to int64) {
		if _, err := f.WriteAt(make([]byte, to-from), from); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		damage func(*os.File)
		torn   bool
		lost   int // at most this many of the later keys
		all    bool
		caveat string
	}{
		{"whole", func(*os.File) {}, false, 0, true, ""},
		{"the last record cut off with the file", func(f *os.File) { _ = f.Truncate(end - 50) },
			true, 1, false, "was left out: it is a write that never finished, so it was never acknowledged; or the " +
				"file was truncated, and later writes are lost."},
		{"the last record half written", func(f *os.File) { zero(f, end-1024&^511, end) },
			true, 1, false, "never finished"},
		{"a flipped byte in the last record", func(f *os.File) { flip(f, end-50) },
			false, 1, false, "what was written later is lost"},
		{"a length of the last record that is too large", func(f *os.File) { flip(f, last+4) },
			false, 1, false, "what was written later is lost"},
		{"that, in a copy without the zeros behind it", func(f *os.File) { flip(f, last+4); _ = f.Truncate(end) },
			false, 1, false, "what was written later is lost"},
		{"a length in the middle that is none", func(f *os.File) { flip(f, next+5) },
			false, 501, false, "what was written later is lost"},
		{"a flipped byte in the middle", func(f *os.File) { flip(f, middle+200) },
			false, 501, false, "what was written later is lost"},
		{"zeros in the middle", func(f *os.File) { zero(f, middle, middle+4096) },
			false, 501, false, "what was written later is lost"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(dir, os.DirFS(s.Dir)); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(lastWAL(t, filepath.Join(dir, "member", "wal")), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			test.damage(f)
			_ = f.Close()
			out, hole, bad := filepath.Join(t.TempDir(), "out.db"), new(HoleError), new(snapfile.Bad)
			made, err := SnapshotFromDataDir(t.Context(), dir, "", out, nil)
			if lost := !test.all && !test.torn; lost != errors.As(err, &hole) || lost != errors.As(err, &bad) {
				t.Fatalf("a hole %v, %v", lost, err)
			}
			if hole.First != 0 {
				made, err = SnapshotUpToHole(t.Context(), dir, "", out, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			damage := made.DataDir.Damage
			if (damage == nil) != test.all || (damage != nil && damage.Torn != test.torn) {
				t.Errorf("damage %v", damage)
			}
			if joined := strings.Join(made.Caveats, " "); !strings.Contains(joined, test.caveat) ||
				(joined == "") != test.all {
				t.Errorf("caveats %q", made.Caveats)
			}
			b := bootFrom(t, made, "3.6.16")
			before, err := b.client().Count(t.Context(), "/before")
			if err != nil {
				t.Fatal(err)
			}
			later, err := b.client().Count(t.Context(), "/later")
			if err != nil {
				t.Fatal(err)
			}
			if before != 500 || later < int64(501-test.lost) || (later == 501) != test.all {
				t.Errorf("%d keys of before and %d of later came back", before, later)
			}
			b.kill()
		})
	}
}

func lastWAL(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no log in %s: %v", dir, err)
	}
	return names[len(names)-1]
}

// walEnd returns where the last record of the newest log file ends: only zeros follow.
func walEnd(t *testing.T, s *server) int64 {
	t.Helper()
	data, err := os.ReadFile(lastWAL(t, filepath.Join(s.Dir, "member", "wal")))
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(strings.TrimRight(string(data), "\x00")))
}

// recordBehind returns where the record after the one at a place begins.
func recordBehind(t *testing.T, s *server, at int64) int64 {
	t.Helper()
	f, err := os.Open(lastWAL(t, filepath.Join(s.Dir, "member", "wal")))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var header [8]byte
	at = (at + 7) &^ 7 // the zeros at a record's end may be its own
	if _, err := f.ReadAt(header[:], at); err != nil {
		t.Fatal(err)
	}
	return at + recordSize(header)
}

// An etcd that started without its peers holds the lock and answers nobody: only its
// files say what it is.
func TestADataDirectoryOfAnEtcdThatLostItsQuorumIsRead(t *testing.T) {
	t.Parallel()
	servers := startThree(t, "3.6.16")
	servers[0].put("/registry/pods/", 50, 100)
	for _, s := range servers {
		s.kill()
	}
	servers[0].start("3.6.16")
	inUse := func() bool {
		_, err := Inspect(t.Context(), servers[0].Dir, "")
		return errors.Is(err, ErrInUse)
	}
	for end := time.Now().Add(patience); !inUse(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the etcd does not take its lock")
		}
	}
	d, err := InspectMute(t.Context(), servers[0].Dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Members) != 3 || d.RevisionAtMost < 50 {
		t.Errorf("%d members at revision %d", len(d.Members), d.RevisionAtMost)
	}
	if _, err := InspectMute(t.Context(), filepath.Join(servers[0].Dir, "absent"), ""); !errors.Is(err,
		fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
