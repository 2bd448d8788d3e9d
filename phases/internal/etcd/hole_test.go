package etcd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// An old db was put back beside a log whose first file etcd has purged, as it purges all but the
// last five: etcd itself does not start on that.
func TestADbThatTheLogDoesNotReachBackToIsAHole(t *testing.T) {
	t.Parallel()
	const version = "3.6.16"
	s := newServer(t, "a").start(version, "--snapshot-count", "20").await()
	s.put("/old/", 50, 10)
	s.stop()
	db := filepath.Join(s.Dir, "member", "snap", "db")
	old, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	s.start(version, "--snapshot-count", "20").await().put("/new/", 70, 1<<20)
	s.stop()
	logs, err := filepath.Glob(filepath.Join(s.Dir, "member", "wal", "*-*.wal"))
	if err != nil || len(logs) < 2 {
		t.Fatalf("files %v, %v", logs, err)
	}
	whole, err := Inspect(t.Context(), s.Dir, "")
	if err != nil || whole.Hole != nil {
		t.Fatalf("before the disaster: %v %+v", err, whole)
	}
	if err := errors.Join(os.Remove(logs[0]), os.WriteFile(db, old, 0o600)); err != nil {
		t.Fatal(err)
	}
	d, err := Inspect(t.Context(), s.Dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if d.Hole == nil || d.Hole.First != d.ConsistentIndex+1 || d.RevisionAtMost < 120 {
		t.Errorf("the db ends at %d, revision %d at most; hole %+v", d.ConsistentIndex, d.RevisionAtMost, d.Hole)
	}
	out := filepath.Join(t.TempDir(), "out.db")
	_, err = SnapshotFromDataDir(t.Context(), s.Dir, "", out, nil)
	var bad *snapfile.Bad
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), "is missing: the db ends at entry") {
		t.Errorf("a snapshot: %v", err)
	}
	if _, err := os.Lstat(out); err == nil {
		t.Error("a file is left")
	}
	made, err := SnapshotUpToHole(t.Context(), s.Dir, "", out, nil)
	if err != nil || made.Contents.Keys != 50 || !strings.Contains(strings.Join(made.Caveats, " "), "later is lost") {
		t.Errorf("up to the hole: %v %+v", err, made)
	}
	s.start(version, "--snapshot-count", "20")
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Error("etcd starts on it")
	}
}

func TestADbAndALogOfDifferentHistoriesAreRefused(t *testing.T) {
	t.Parallel()
	a, b := newServer(t, "a"), newServer(t, "b")
	for _, s := range []*server{a, b} {
		s.start("3.7.3").await().put("/of/"+s.Name, 40, 10)
		s.stop()
	}
	for _, part := range []string{"wal", "snap"} {
		dir := t.TempDir()
		for _, from := range []*server{a, b} {
			for _, name := range []string{"wal", "snap"} {
				if (from == a) == (name == part) {
					continue
				}
				if err := os.CopyFS(filepath.Join(dir, "member", name),
					os.DirFS(filepath.Join(from.Dir, "member", name))); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, err := Inspect(t.Context(), dir, "")
		var bad *snapfile.Bad
		if !errors.As(err, &bad) {
			t.Errorf("the %s of another cluster: %v", part, err)
		}
	}
}
