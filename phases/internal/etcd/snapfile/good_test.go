package snapfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/coreos/go-semver/semver"
	bolt "go.etcd.io/bbolt"

	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
)

func check(t *testing.T, b []byte, o Options) *Report {
	t.Helper()
	path := write(t, b)
	r, err := Check(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(after, b) {
		t.Fatalf("the file was changed: %v", err)
	}
	return r
}

func TestAGoodSnapshotIsReportedInFull(t *testing.T) {
	b := kubernetes(t).snapshot()
	sum := sha256.Sum256(b)
	want := Report{
		SizeBytes: int64(len(b)), SHA256: hex.EncodeToString(sum[:]),
		Trailer: hex.EncodeToString(b[len(b)-sha256.Size:]), HashChecked: true, PageSize: os.Getpagesize(),
		Revision: 708, CompactRevision: 550, ScheduledCompactRevision: 550, HashRevision: 708, HashCompactRevision: 550,
		StorageVersion: "3.7.0", ClusterVersion: "3.7.0", ConsistentIndex: 1234, Term: 5,
		Members: []Member{
			{0x8e9e05c52164694d, "cp1", []string{"https://10.0.0.1:2380"}, []string{"https://10.0.0.1:2379"}, false},
			{0x91bc3c398fb3c146, "cp2", []string{"https://10.0.0.2:2380"}, []string{"https://10.0.0.2:2379"}, false},
			{0xfd422379fda50e48, "cp3", []string{"https://10.0.0.3:2380"}, []string{"https://10.0.0.3:2379"}, true},
		},
		Alarms:       []Alarm{{7, "NOSPACE"}},
		MasterLeases: []string{"10.0.0.1", "10.0.0.2"},
		Resources: map[string]int64{
			"pods": 250, "secrets": 100, "services": 1, "endpoints": 1, "nodes": 1, "masterleases": 2,
			"certificates.cert-manager.io": 1, "configmaps": 1,
		},
		Buckets: []string{"alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members",
			"members_removed", "meta"},
	}
	got := check(t, b, Options{})
	// The test below compares these with etcd's own.
	want.HashKV, want.Keys, want.Revisions = got.HashKV, 357, got.Revisions
	want.DeadMasters = want.MasterLeases // their entries have no lease
	for i, stored := range got.Stored {
		if stored.Prefix == "" {
			continue
		}
		if one := stored.Sample; one == nil || !bytes.HasPrefix(one.Value, []byte(stored.Prefix)) ||
			!strings.HasPrefix(one.Key, "/registry/secrets/") {
			t.Errorf("the sample of %s is %v", stored.Prefix, one)
		}
		got.Stored[i].Sample = nil
	}
	want.Stored = []Stored{{Resource: "certificates.cert-manager.io", Objects: 1}, {Resource: "configmaps", Objects: 1},
		{Resource: "endpoints", Objects: 1}, {Resource: "masterleases", Objects: 2}, {Resource: "nodes", Objects: 1},
		{Resource: "pods", Objects: 250}, {Resource: "secrets", Prefix: "k8s:enc:aescbc:v1:key0:", Objects: 50},
		{Resource: "secrets", Prefix: "k8s:enc:aescbc:v1:key1:", Objects: 50}, {Resource: "services", Objects: 1}}
	want.Samples = got.Samples
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
}

// TestHashKVIsWhatEtcdAnswers compares the hash, the revisions and the number of keys with etcd's
// own storage on the same data: as it ran, and as it boots on the snapshot.
func TestHashKVIsWhatEtcdAnswers(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T) *server
	}{
		{"an empty database", newServer},
		{"never compacted", func(t *testing.T) *server {
			s := newServer(t)
			s.put("a", "1")
			s.put("b", "2")
			s.put("a", "3")
			s.delete("b")
			return s
		}},
		{"a Kubernetes cluster, compacted in between", kubernetes},
		{"compacted at the last revision", func(t *testing.T) *server {
			s := kubernetes(t)
			s.compact(s.kv.Rev())
			return s
		}},
		{"compacted at a deletion", func(t *testing.T) *server {
			s := newServer(t)
			s.put("a", "1")
			s.put("b", "1")
			s.delete("a")
			s.compact(s.kv.Rev())
			return s
		}},
		{"compacted at a deletion that later writes follow", func(t *testing.T) *server {
			s := newServer(t)
			s.put("a", "1")
			s.put("b", "1")
			s.delete("a")
			rev := s.kv.Rev()
			s.put("b", "2")
			s.put("a", "2")
			s.compact(rev)
			s.delete("b")
			return s
		}},
		{"nothing live, compacted before the last deletion", func(t *testing.T) *server {
			s := newServer(t)
			s.put("a", "1")
			s.put("b", "1")
			s.delete("a")
			s.compact(3)
			s.delete("b")
			return s
		}},
		{"nothing live, compacted at the last deletion", func(t *testing.T) *server {
			s := newServer(t)
			s.put("a", "1")
			s.delete("a")
			s.compact(s.kv.Rev())
			return s
		}},
		{"several changes in one transaction", func(t *testing.T) *server {
			s := newServer(t)
			for i := range 5 {
				tx := s.kv.Write(traceutil.TODO())
				tx.Put([]byte("a"), []byte{byte(i)}, 0)
				tx.Put([]byte("b"), []byte{byte(i)}, 0)
				tx.DeleteRange([]byte("c"), nil)
				tx.Put([]byte("d"), []byte{byte(i)}, 0)
				tx.End()
				s.put("c", "x")
			}
			s.compact(s.kv.Rev() - 3)
			return s
		}},
		{"values larger than any buffer", func(t *testing.T) *server {
			s := newServer(t)
			for i := range 3 {
				s.put("big", string(bytes.Repeat([]byte{byte(i)}, 3<<20)))
				s.put(string(bytes.Repeat([]byte{'k'}, 1<<20)), "long key")
			}
			s.compact(4)
			return s
		}},
		{"a compaction that was begun only", func(t *testing.T) *server {
			s := kubernetes(t)
			tx := s.be.BatchTx()
			mvcc.SetScheduledCompact(tx, s.kv.Rev()-20)
			s.be.ForceCommit()
			return openServer(t, write(t, s.snapshot()[:len(s.snapshot())-trailerSize]))
		}},
		{"a revision that a restore raised", func(t *testing.T) *server {
			s := kubernetes(t)
			rev := s.kv.Rev() + 1_000_000_000
			tx := s.be.BatchTx()
			tx.LockOutsideApply()
			tx.UnsafePut(schema.Key, mvcc.RevToBytes(mvcc.Revision{Main: rev}, mvcc.NewRevBytes()), []byte{})
			mvcc.UnsafeSetScheduledCompact(tx, rev)
			tx.Unlock()
			s.be.ForceCommit()
			again := openServer(t, write(t, s.snapshot()[:len(s.snapshot())-trailerSize]))
			again.put("/registry/pods/default/after", "restored")
			return again
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.make(t)
			b := s.snapshot()
			r := check(t, b, Options{})
			agrees(t, r, s)
			agrees(t, r, openServer(t, write(t, b[:len(b)-trailerSize])))
		})
	}
}

func agrees(t *testing.T, r *Report, s *server) {
	t.Helper()
	hash, rev, err := s.kv.HashStorage().HashByRev(0)
	if err != nil {
		t.Fatal(err)
	}
	if r.HashKV != hash.Hash || r.HashRevision != hash.Revision ||
		r.HashCompactRevision != hash.CompactRevision || r.Revision != rev {
		t.Errorf("got hash %x at %d compacted at %d, revision %d; etcd says %x at %d compacted at %d, revision %d",
			r.HashKV, r.HashRevision, r.HashCompactRevision,
			r.Revision, hash.Hash, hash.Revision, hash.CompactRevision, rev)
	}
	res, err := s.kv.Range(context.Background(), []byte{0}, []byte{}, mvcc.RangeOptions{CountOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if int64(res.Count) != r.Keys {
		t.Errorf("got %d keys; etcd says %d", r.Keys, res.Count)
	}
}

func TestASmallTableOfKeysTakesMorePassesAndFindsTheSame(t *testing.T) {
	path := write(t, kubernetes(t).snapshot())
	whole := walkWith(t, path, liveSlots, maxNotes)
	for _, slots := range []int{64, 256} {
		if parts := walkWith(t, path, slots, maxNotes); !reflect.DeepEqual(whole, parts) {
			t.Errorf("with %d slots:\ngot  %+v\nwant %+v", slots, parts, whole)
		}
	}
}

func TestWhereNotAllEntriesAreNotedASecondWalkFindsTheSame(t *testing.T) {
	for _, path := range []string{write(t, kubernetes(t).snapshot()), write(t, manyNames(t).snapshot())} {
		noted := walkWith(t, path, liveSlots, maxNotes)
		for _, notes := range []int{0, 1, int(noted.Revisions) - 1} {
			if walked := walkWith(t, path, liveSlots, notes); !reflect.DeepEqual(noted, walked) {
				t.Errorf("with %d notes:\ngot  %+v\nwant %+v", notes, walked, noted)
			}
		}
	}
}

// The binding counts among its resource, and is told from others.
func TestTheAdministratorsBindingIsSeen(t *testing.T) {
	for _, names := range [][]string{{"cluster-admin"}, {"cluster-admin", "kubeadm:cluster-admins"},
		{"kubeadm:cluster-admins-too"}} {
		s := newServer(t)
		for _, name := range names {
			s.put("/registry/clusterrolebindings/"+name, "v")
		}
		r := walkWith(t, write(t, s.snapshot()), liveSlots, maxNotes)
		if r.AdminBinding != (len(names) == 2) || r.Resources["clusterrolebindings"] != int64(len(names)) {
			t.Errorf("%q: %v, %v", names, r.AdminBinding, r.Resources)
		}
	}
}

// manyNames has more names, API servers and encryption keys than the report tells apart.
func manyNames(t *testing.T) *server {
	s := newServer(t)
	for i := range maxNames + 3 {
		s.put(fmt.Sprintf("/registry/resource%d/one", i), "v")
	}
	for i := range maxMasters + 3 {
		s.put(fmt.Sprintf("/registry/masterleases/10.0.%d.%d", i/256, i%256), "v")
	}
	for i := range maxPrefixes + 3 {
		s.put(fmt.Sprintf("/registry/secrets/%d", i), fmt.Sprintf("k8s:enc:aescbc:v1:key%d:x", i))
	}
	return s
}

func TestBeyondWhatIsToldApartNothingIsLost(t *testing.T) {
	r := walkWith(t, write(t, manyNames(t).snapshot()), liveSlots, maxNotes)
	var prefixes []string
	for _, stored := range r.Stored {
		if stored.Prefix != "" {
			prefixes = append(prefixes, stored.Prefix)
		}
	}
	if len(r.MasterLeases) != maxMasters || r.Resources["masterleases"] != maxMasters+3 ||
		len(prefixes) != maxPrefixes+1 || prefixes[0] != "k8s:enc:" {
		t.Errorf("%d API servers, %d others, %d prefixes: %q",
			len(r.MasterLeases), r.Resources["other"], len(prefixes), prefixes)
	}
	var sum int64
	for _, n := range r.Resources {
		sum += n
	}
	if want := int64(maxNames + maxMasters + maxPrefixes + 9); sum != want || r.Keys != want {
		t.Errorf("%d objects and %d keys, not %d", sum, r.Keys, want)
	}
}

func walkWith(t *testing.T, path string, slots, notes int) *Report {
	t.Helper()
	f, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := metas(f, false)
	if err != nil {
		t.Fatal(err)
	}
	r := &Report{}
	if err := walkAll(t.Context(), f, m, r, newProgress(Options{}, f), func(int64) {}, slots, notes); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPeekFindsWhatCheckFinds(t *testing.T) {
	path := write(t, kubernetes(t).snapshot())
	full, err := Check(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Peek(path)
	if err != nil {
		t.Fatal(err)
	}
	want := &Report{
		SizeBytes: full.SizeBytes, PageSize: full.PageSize, Revision: full.Revision,
		CompactRevision:          full.CompactRevision,
		ScheduledCompactRevision: full.ScheduledCompactRevision,
		HashRevision:             full.HashRevision, HashCompactRevision: full.HashCompactRevision,
		StorageVersion: full.StorageVersion, ClusterVersion: full.ClusterVersion,
		ConsistentIndex: full.ConsistentIndex, Term: full.Term,
		Members: full.Members, Alarms: full.Alarms,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestARawDatabaseIsGoodWithoutTrailerAndWithOneTornMetaPage(t *testing.T) {
	b := kubernetes(t).snapshot()
	raw := bytes.Clone(b[:len(b)-trailerSize])
	want := check(t, b, Options{})
	for _, torn := range []int{-1, 0, 1} {
		if torn >= 0 {
			clear(raw[torn*want.PageSize : torn*want.PageSize+100])
		}
		got := check(t, raw, Options{Raw: true})
		if got.HashKV != want.HashKV || got.Keys != want.Keys || got.HashChecked {
			t.Errorf("meta page %d torn: got %+v", torn, got)
		}
		copy(raw, b[:2*want.PageSize])
	}
	if _, err := Check(t.Context(), write(t, raw), Options{}); !isBad(err) {
		t.Errorf("without Raw: %v", err)
	}
}

func TestQuickSaysNoMoreThanItProves(t *testing.T) {
	b := kubernetes(t).snapshot()
	got := check(t, b, Options{Quick: true})
	sum := sha256.Sum256(b)
	want := &Report{SizeBytes: int64(len(b)), SHA256: hex.EncodeToString(sum[:]),
		Trailer: hex.EncodeToString(b[len(b)-sha256.Size:]), HashChecked: true, PageSize: os.Getpagesize()}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestDatabasesThatBboltWritesWithAndWithoutFreelistAreGood(t *testing.T) {
	for _, freelist := range []bool{true, false} {
		r := check(t, small(t, freelist), Options{})
		if r.Keys != 12 || r.Revisions != 36 || len(r.Members) != 1 || r.PageSize != 1024 {
			t.Errorf("freelist %v: %+v", freelist, r)
		}
	}
}

func TestASnapshotOfANewerEtcdIsGood(t *testing.T) {
	s := newServer(t)
	s.put("a", "1")
	tx := s.be.BatchTx()
	tx.LockOutsideApply()
	schema.UnsafeSetStorageVersion(tx, semver.New("3.99.0"))
	tx.UnsafePut(schema.Meta, []byte("unheardOf"), bytes.Repeat([]byte{0xff}, 100))
	tx.UnsafeCreateBucket(schema.Test)
	tx.UnsafePut(schema.Test, []byte("unheardOf"), bytes.Repeat([]byte{0xff}, 1<<20))
	tx.Unlock()
	if r := check(t, s.snapshot(), Options{}); r.StorageVersion != "3.99.0" || r.Keys != 1 {
		t.Errorf("%+v", r)
	}
}

func TestPagesLargerThanAnyBufferAreGood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bolt.Tx) error {
		if err := smallRound(tx, 0); err != nil {
			return err
		}
		for i := range 200 { // two such keys alone make a branch page of 64 KiB
			key := append(fmt.Appendf(nil, "%03d", i), bytes.Repeat([]byte{'k'}, bolt.MaxKeySize-3)...)
			if err := tx.Bucket([]byte("newer")).Put(key, bytes.Repeat([]byte{'v'}, 300<<10)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check(t, b, Options{Raw: true})
}

func TestASymbolicLinkToASnapshotIsGood(t *testing.T) {
	path := write(t, small(t, false))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(t.Context(), link, Options{}); err != nil {
		t.Error(err)
	}
}

func TestProgressGrowsToItsTotal(t *testing.T) {
	s := newServer(t)
	for range 30 {
		s.put("big", string(bytes.Repeat([]byte{'v'}, 1<<20)))
	}
	last, calls := int64(0), 0
	check(t, s.snapshot(), Options{Progress: func(done, total int64) {
		if done < last || done > total {
			t.Errorf("%d after %d of %d", done, last, total)
		}
		last, calls = done, calls+1
		if done == total {
			last = -1
		}
	}})
	if last != -1 || calls < 10 {
		t.Errorf("%d calls, last %d", calls, last)
	}
}

func TestACancelledCheckStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Check(ctx, write(t, kubernetes(t).snapshot()), Options{}); err != context.Canceled {
		t.Error(err)
	}
}
