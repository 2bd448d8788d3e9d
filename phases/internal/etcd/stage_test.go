package etcd

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// spec stages a snapshot for the member s, alone.
func (s *server) spec(path, sha256 string) StageSpec {
	return StageSpec{
		Snapshot: path, SHA256: sha256, Dir: s.Dir, Name: s.Name, PeerURLs: []string{s.PeerURL},
		InitialCluster: s.Name + "=" + s.PeerURL, Token: "fresh",
	}
}

func snapshotOf(t *testing.T, s *server) Saved {
	t.Helper()
	saved, err := Save(t.Context(), s.client(), filepath.Join(t.TempDir(), "snap.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// storageVersion is what the file itself says. etcd writes it a moment after it began to serve, and
// what it says beside a snapshot may be from just before that.
func storageVersion(t *testing.T, snapshot string) string {
	t.Helper()
	r, err := snapfile.Check(t.Context(), snapshot, snapfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r.StorageVersion
}

func TestAStagedTreeStartsOnEveryEtcdThatIsNotOlderThanItsData(t *testing.T) {
	t.Parallel()
	for i, from := range versions {
		t.Run("data of "+from, func(t *testing.T) {
			t.Parallel()
			old := newServer(t, "a").start(from).await()
			old.put("/registry/configmaps/default/c", 300, 100)
			want, saved := old.contents(), snapshotOf(t, old)
			old.kill()
			for _, on := range versions[i:] {
				t.Run("on "+on, func(t *testing.T) {
					s := newServer(t, "b")
					spec := s.spec(saved.Path, fileSHA256(t, saved.Path))
					spec.BumpRevision = 1_000_000
					spec.WALDir = filepath.Join(t.TempDir(), "wal")
					staged, err := Stage(t.Context(), spec)
					if err != nil {
						t.Fatal(err)
					}
					db, err := snapfile.Check(t.Context(), dbPath(s.Dir), snapfile.Options{Raw: true})
					if err != nil {
						t.Fatal(err)
					}
					if was := storageVersion(t, saved.Path); db.StorageVersion != was {
						t.Errorf("storage version %q, the snapshot's was %q", db.StorageVersion, was)
					}
					if staged.SHA256 != fileSHA256(t, saved.Path) ||
						staged.Revision != 1_000_301 || db.Revision != staged.Revision {
						t.Errorf("staged %+v, revision %d in the db", staged, db.Revision)
					}
					s.start(on, "--wal-dir", spec.WALDir).await()
					if got := s.contents(); !maps.Equal(got, want) {
						t.Errorf("%d keys, want %d with the same values", len(got), len(want))
					}
					st := s.client().Status(t.Context())[0]
					if st.ClusterID != staged.ClusterID || st.MemberID != staged.MemberID ||
						st.Revision != staged.Revision {
						t.Errorf("etcd says %+v, staged %+v", st, staged)
					}
					s.put("/registry/after/", 1, 10)
				})
			}
		})
	}
}

func TestThreeMembersStagedFromOneSnapshotAreEqual(t *testing.T) {
	t.Parallel()
	old := newServer(t, "old").start("3.7.3").await()
	old.put("/registry/pods/default/p", 100, 100)
	want, saved := old.contents(), snapshotOf(t, old)
	all := []*server{newServer(t, "a"), newServer(t, "b"), newServer(t, "c")}
	var urls []string
	for _, s := range all {
		urls = append(urls, s.Name+"="+s.PeerURL)
	}
	var staged Staged
	for _, s := range all {
		spec := s.spec(saved.Path, fileSHA256(t, saved.Path))
		spec.InitialCluster, spec.BumpRevision = strings.Join(urls, ","), 5000
		got, err := Stage(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if staged.ClusterID != 0 &&
			(got.ClusterID != staged.ClusterID || got.MemberID == staged.MemberID || got.Revision != staged.Revision) {
			t.Errorf("%+v beside %+v", got, staged)
		}
		staged = got
	}
	for _, s := range all {
		s.start("3.7.3", "--initial-cluster", strings.Join(urls, ","))
	}
	hashes := map[Hash]bool{}
	for _, s := range all {
		s.await()
		if got := s.contents(); !maps.Equal(got, want) {
			t.Errorf("%s has %d keys, want %d with the same values", s.Name, len(got), len(want))
		}
		h, err := s.client().HashKV(t.Context(), s.Endpoint, staged.Revision)
		if err != nil {
			t.Fatal(err)
		}
		hashes[h] = true
	}
	if len(hashes) != 1 {
		t.Errorf("hashes %v", hashes)
	}
}

func TestASnapshotTakenWithoutSpaceCanBeWrittenToAfterDisarming(t *testing.T) {
	t.Parallel()
	old := newServer(t, "a").start("3.6.16", "--quota-backend-bytes", "1000000").await()
	for c := old.client().v3; ; {
		if _, err := c.Put(t.Context(), "k", strings.Repeat("x", 50000)); err != nil {
			break
		}
	}
	saved := snapshotOf(t, old)
	s := newServer(t, "b")
	staged, err := Stage(t.Context(), s.spec(saved.Path, fileSHA256(t, saved.Path)))
	if err != nil {
		t.Fatal(err)
	}
	c := s.start("3.6.16").await().client()
	alarms, err := c.Disarm(t.Context())
	if err != nil || len(alarms) != 1 || alarms[0].MemberID == staged.MemberID {
		t.Errorf("disarmed %v, %v", alarms, err)
	}
	if _, err := c.v3.Put(t.Context(), "after", "1"); err != nil {
		t.Error(err)
	}
}

func TestAStagedDbStaysAtTheStorageVersionOfItsData(t *testing.T) {
	t.Parallel()
	// The newest library must not raise the version of what an older etcd is to start on.
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			old := newServer(t, "a").start(version).await()
			saved := snapshotOf(t, old)
			s := newServer(t, "b")
			if _, err := Stage(t.Context(), s.spec(saved.Path, fileSHA256(t, saved.Path))); err != nil {
				t.Fatal(err)
			}
			if r, err := snapfile.Check(t.Context(), dbPath(s.Dir), snapfile.Options{Raw: true}); err != nil ||
				r.StorageVersion != storageVersion(t, saved.Path) || r.Revision != 1 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

func TestABumpCountsFromACompactionThatTookTheLastEntriesAway(t *testing.T) {
	t.Parallel()
	old := newServer(t, "a").start("3.6.16").await()
	old.put("/k", 10, 10)
	c := old.client()
	if _, err := c.v3.Delete(t.Context(), "/k000009"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.v3.Compact(t.Context(), 12, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	saved := snapshotOf(t, old)
	for bump, want := range map[int64]int64{0: 12, 100: 112} {
		s := newServer(t, "b")
		spec := s.spec(saved.Path, fileSHA256(t, saved.Path))
		spec.BumpRevision = bump
		staged, err := Stage(t.Context(), spec)
		if err != nil || staged.Revision != want {
			t.Fatalf("bumped by %d: %+v, %v, want %d", bump, staged, err, want)
		}
		if got := s.start("3.6.16").await().client().Status(t.Context())[0].Revision; got != want {
			t.Errorf("bumped by %d, etcd is at %d, want %d", bump, got, want)
		}
	}
}

func TestAFailedStagingLeavesNothing(t *testing.T) {
	t.Parallel()
	old := newServer(t, "a").start("3.7.3").await()
	old.put("/k", 100, 1000)
	saved := snapshotOf(t, old)
	for _, test := range []struct {
		name   string
		change func(*StageSpec)
		want   error
	}{
		{"another hash", func(s *StageSpec) { s.SHA256 = "00" + s.SHA256[2:] }, ErrHashMismatch},
		{"no hash", func(s *StageSpec) { s.SHA256 = "" }, nil},
		{"no such file", func(s *StageSpec) { s.Snapshot += ".absent" }, fs.ErrNotExist},
		{"a member that the cluster does not name", func(s *StageSpec) { s.Name = "other" }, nil},
		{"a cluster that is no list", func(s *StageSpec) { s.InitialCluster = "nonsense" }, nil},
		{"other peer URLs than the cluster's", func(s *StageSpec) { s.PeerURLs = []string{"http://127.0.0.1:1"} }, nil},
		{"a negative bump", func(s *StageSpec) { s.BumpRevision = -1 }, nil},
		{"replaced meanwhile by a file of the same contents", func(s *StageSpec) {
			path := s.Snapshot
			s.Progress = func(int64, int64) {
				data, err := os.ReadFile(path)
				if err == nil {
					err = errors.Join(os.WriteFile(path+".new", data, 0o600), os.Rename(path+".new", path))
				}
				if err != nil {
					t.Error(err)
				}
			}
		}, ErrChanged},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, "b")
			spec := s.spec(saved.Path, fileSHA256(t, saved.Path))
			spec.WALDir = filepath.Join(t.TempDir(), "wal")
			test.change(&spec)
			_, err := Stage(t.Context(), spec)
			if err == nil || (test.want != nil && !errors.Is(err, test.want)) {
				t.Fatalf("stage: %v", err)
			}
			t.Log(err)
			for _, dir := range []string{spec.Dir, spec.WALDir} {
				if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is left", dir)
				}
			}
		})
	}
	t.Run("a directory that is there is not touched", func(t *testing.T) {
		s := newServer(t, "b")
		if err := os.Mkdir(s.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := Stage(t.Context(), s.spec(saved.Path, fileSHA256(t, saved.Path))); err == nil {
			t.Error("staged into it")
		}
		if _, err := os.Lstat(s.Dir); err != nil {
			t.Error("it was removed")
		}
	})
}
