package snapfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coreos/go-semver/semver"
	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
)

// server is etcd's own storage, in this process.
type server struct {
	t  *testing.T
	be backend.Backend
	kv mvcc.WatchableKV
	le *lease.FakeLessor
}

func newServer(t *testing.T) *server {
	return openServer(t, filepath.Join(t.TempDir(), "db"))
}

func openServer(t *testing.T, path string) *server {
	t.Helper()
	cfg := backend.DefaultBackendConfig(zap.NewNop())
	cfg.Path, cfg.BatchInterval = path, time.Hour
	s := &server{t: t, be: backend.New(cfg), le: &lease.FakeLessor{}}
	s.kv = mvcc.New(zap.NewNop(), s.be, s.le, mvcc.StoreConfig{})
	t.Cleanup(func() { s.kv.Close(); s.be.Close() })
	return s
}

func (s *server) put(key, value string) int64 {
	return s.kv.Put([]byte(key), []byte(value), lease.NoLease)
}
func (s *server) delete(key string) { s.kv.DeleteRange([]byte(key), nil) }

func (s *server) compact(rev int64) {
	s.t.Helper()
	done, err := s.kv.Compact(traceutil.TODO(), rev)
	if err != nil {
		s.t.Fatal(err)
	}
	<-done
}

// cluster stores what a member stores besides the keys.
func (s *server) cluster(ids ...types.ID) {
	m := schema.NewMembershipBackend(zap.NewNop(), s.be)
	m.MustCreateBackendBuckets()
	for i, id := range ids {
		m.MustSaveMemberToBackend(&membership.Member{
			ID: id,
			RaftAttributes: membership.RaftAttributes{PeerURLs: []string{fmt.Sprintf("https://10.0.0.%d:2380", i+1)},
				IsLearner: i == 2},
			Attributes: membership.Attributes{Name: fmt.Sprintf("cp%d", i+1),
				ClientURLs: []string{fmt.Sprintf("https://10.0.0.%d:2379", i+1)}},
		})
	}
	m.MustSaveClusterVersionToBackend(semver.New("3.7.0"))
	a := schema.NewAlarmBackend(zap.NewNop(), s.be)
	a.CreateAlarmBucket()
	a.MustPutAlarm(&pb.AlarmMember{MemberID: 7, Alarm: pb.AlarmType_NOSPACE})
	schema.NewAuthBackend(zap.NewNop(), s.be).CreateAuthBuckets()
	tx := s.be.BatchTx()
	tx.LockOutsideApply()
	schema.UnsafeUpdateConsistentIndexForce(tx, 1234, 5)
	schema.UnsafeSetStorageVersion(tx, semver.New("3.7.0"))
	schema.UnsafeCreateLeaseBucket(tx)
	tx.Unlock()
}

// snapshot is what Maintenance.Snapshot sends.
func (s *server) snapshot() []byte {
	s.t.Helper()
	s.kv.Commit()
	snap := s.be.Snapshot()
	defer snap.Close()
	var b bytes.Buffer
	if _, err := snap.WriteTo(&b); err != nil {
		s.t.Fatal(err)
	}
	return seal(b.Bytes())
}

func seal(db []byte) []byte {
	sum := sha256.Sum256(db)
	return append(db, sum[:]...)
}

func write(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// kubernetes is a small cluster's data: every kind of record, several page levels, deletions,
// overwritten and large values, compacted.
func kubernetes(t *testing.T) *server {
	s := newServer(t)
	s.cluster(0x8e9e05c52164694d, 0x91bc3c398fb3c146, 0xfd422379fda50e48)
	for i := range 400 {
		s.put(fmt.Sprintf("/registry/pods/default/web-%d", i), string(bytes.Repeat([]byte{byte(i)}, 500+i)))
	}
	for i := range 100 {
		s.put(fmt.Sprintf("/registry/secrets/default/s-%d", i),
			fmt.Sprintf("k8s:enc:aescbc:v1:key%d:%s", i%2, bytes.Repeat([]byte("x"), 100)))
		s.delete(fmt.Sprintf("/registry/pods/default/web-%d", i*3))
	}
	s.put("/registry/services/specs/default/kubernetes", "v")
	s.put("/registry/services/endpoints/default/kubernetes", "v")
	s.put("/registry/minions/cp1", "v")
	s.put("/registry/masterleases/10.0.0.2", "v")
	s.put("/registry/masterleases/10.0.0.1", "v")
	s.put("/registry/cert-manager.io/certificates/default/a", "v")
	s.put("/registry/configmaps/default/big", string(bytes.Repeat([]byte("large "), 200_000)))
	s.compact(550)
	for i := range 50 {
		s.put(fmt.Sprintf("/registry/pods/default/web-%d", i*3+1), "changed")
		s.delete(fmt.Sprintf("/registry/pods/default/web-%d", i*3+2))
	}
	return s
}

// small is a sealed database with pages of 1 KiB, written by bbolt itself, for tests that go
// through every bit; with a freelist if asked.
func small(t testing.TB, freelist bool) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: 1024, NoFreelistSync: !freelist})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for round := range 3 {
		if err := db.Update(func(tx *bolt.Tx) error { return smallRound(tx, round) }); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := db.View(func(tx *bolt.Tx) error { _, err := tx.WriteTo(&b); return err }); err != nil {
		t.Fatal(err)
	}
	return seal(b.Bytes())
}

// smallRound overwrites as it goes, so that pages become free; the members bucket stays inline.
func smallRound(tx *bolt.Tx, round int) error {
	for _, name := range []string{"alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members",
		"members_removed", "meta", "newer"} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	for i := range 12 {
		main := int64(2 + 12*round + i)
		kv := &mvccpb.KeyValue{
			Key: fmt.Appendf(nil, "/registry/pods/default/web-%d", i), Value: bytes.Repeat([]byte{'v'}, 60),
			CreateRevision: int64(2 + i), ModRevision: main, Version: int64(round + 1),
		}
		v, err := proto.Marshal(kv)
		if err != nil {
			return err
		}
		if err := tx.Bucket([]byte("key")).Put(mvcc.RevToBytes(mvcc.Revision{Main: main}, mvcc.NewRevBytes()),
			v); err != nil {
			return err
		}
	}
	if err := tx.Bucket([]byte("meta")).Put([]byte("consistent_index"),
		[]byte{0, 0, 0, 0, 0, 0, 1, byte(round)}); err != nil {
		return err
	}
	return tx.Bucket([]byte("members")).Put([]byte("8e9e05c52164694d"),
		[]byte(`{"id":10276657743932975437,"peerURLs":["https://10.0.0.1:2380"],"name":"cp1"}`))
}

// resum corrects the checksum of a meta page.
func resum(m []byte) {
	sum := fnv.New64a()
	sum.Write(m[:56])
	binary.LittleEndian.PutUint64(m[56:], sum.Sum64())
}
