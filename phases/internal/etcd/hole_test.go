package etcd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

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

// inShortFiles writes a member's log again, in files of so many entries. It is not for tests that
// run beside others: how long a file is belongs to etcd's package.
func (s *server) inShortFiles(entries int) (files []string) {
	s.t.Helper()
	dir := filepath.Join(s.Dir, "member", "wal")
	l, err := readLog(dir, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	w := newLogOf(s.t, l.memberID, l.clusterID)
	for piece := range slices.Chunk(l.entries, entries) {
		last := piece[len(piece)-1]
		state := &raftpb.HardState{Commit: last.Index, Term: last.Term, Vote: &l.memberID}
		if err := w.w.Save(state, piece[:len(piece)-1]); err != nil {
			s.t.Fatal(err)
		}
		w.cutBehind(state, last)
	}
	if err := errors.Join(w.w.Close(), os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(w.dir))); err != nil {
		s.t.Fatal(err)
	}
	if files, err = filepath.Glob(filepath.Join(dir, "*.wal")); err != nil {
		s.t.Fatal(err)
	}
	return files
}

// A log lacks a file in the middle: what stands before it can be had, and the rest is named.
func TestALogThatLacksAFileIsAHole(t *testing.T) {
	s := newServer(t, "a").start("3.6.16", unflushed...).await()
	s.put("/key/", 60, 10)
	s.kill()
	files := s.inShortFiles(20)
	out := func() string { return filepath.Join(t.TempDir(), "out.db") }
	whole, err := SnapshotFromDataDir(t.Context(), s.Dir, "", out(), nil)
	if err != nil || whole.Contents.Keys != 60 || len(files) < 4 || whole.DataDir.ConsistentIndex > 20 {
		t.Fatalf("whole: %v; %+v; files %v", err, whole, files)
	}
	for i, missing := range files[1 : len(files)-2] { // those of 20 entries
		first := uint64(20*(i+1) + 1)
		aside := filepath.Join(t.TempDir(), "aside")
		if err := os.Rename(missing, aside); err != nil {
			t.Fatal(err)
		}
		hole := new(HoleError)
		_, err := SnapshotFromDataDir(t.Context(), s.Dir, "", out(), nil)
		if !errors.As(err, &hole) || hole.First != first || !strings.Contains(err.Error(), fmt.Sprintf(
			"missing between %s and %s, which continues with entry %d", filepath.Base(files[i]),
			filepath.Base(files[i+2]), first+20)) {
			t.Errorf("without %s: %v", missing, err)
		}
		made, err := SnapshotUpToHole(t.Context(), s.Dir, "", out(), nil)
		if err != nil || made.Contents.ConsistentIndex != first-1 || made.DataDir.RevisionAtMost < whole.Revision {
			t.Errorf("up to the hole: %v %+v", err, made)
		}
		if err := os.Rename(aside, missing); err != nil {
			t.Fatal(err)
		}
	}
}

// A log that ends before its db has lost its end: etcd syncs what it applies to the log before. It
// does not work on such data: 3.6 does not serve, and 3.5 takes no write.
func TestALogThatEndsBeforeTheDbIsAHole(t *testing.T) {
	t.Parallel()
	const version = "3.5.35"
	s := newServer(t, "a").start(version).await()
	s.put("/before/", 200, 100)
	end := (walEnd(t, s) + 7) &^ 7
	s.put("/later/", 200, 100)
	// A write that never finished lacks whole sectors of 512 bytes (server/storage/wal/decoder.go:
	// isTornEntry). A record that lacks less is damaged.
	torn := (end + 8 + 511) &^ 511
	s.stop()
	log := lastWAL(t, filepath.Join(s.Dir, "member", "wal"))
	whole, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]int64{"at the end of a record": end, "within a record": torn} {
		clear(whole[from:])
		if err := os.WriteFile(log, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		out, hole := filepath.Join(t.TempDir(), "out.db"), new(HoleError)
		_, err := SnapshotFromDataDir(t.Context(), s.Dir, "", out, nil)
		if !errors.As(err, &hole) || !strings.Contains(err.Error(), "but the db has applied all up to") {
			t.Errorf("%s: %v", name, err)
		}
		made, err := SnapshotUpToHole(t.Context(), s.Dir, "", out, nil)
		if err != nil || made.Contents.Keys != 400 || hole.First != made.Contents.ConsistentIndex+1 {
			t.Errorf("%s, up to the hole %d: %v %+v", name, hole.First, err, made)
		}
	}
	s.start(version).await()
	if _, err := s.client().v3.Put(t.Context(), "/new", "1"); err == nil {
		t.Error("etcd takes a write on it")
	}
	if n, err := s.client().Count(t.Context(), "/new"); err != nil || n != 0 {
		t.Errorf("etcd has written it: %d, %v", n, err)
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
