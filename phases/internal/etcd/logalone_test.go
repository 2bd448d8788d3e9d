package etcd

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// A db that somebody has deleted is in the log, as long as that goes back to the beginning.
func TestAnEtcdMakesItsDBAnewFromAWholeLog(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "a").start(version).await()
			s.put("/registry/pods/default/p", 100, 100)
			want := s.contents()
			revision, err := s.client().Revision(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.kill()
			if err := os.Remove(dbPath(s.Dir)); err != nil {
				t.Fatal(err)
			}
			log, err := InspectLog(s.Dir, "")
			if err != nil || !log.Whole || log.RevisionAtMost < revision {
				t.Errorf("at revision %d: %+v: %v", revision, log, err)
			}
			if s.start(version).await(); !maps.Equal(s.contents(), want) {
				t.Error("it lacks something")
			}
		})
	}
}

// What was restored was never in the log. Some versions of etcd start on such a log, and serve what
// was written since as if that was all.
func TestALogOfWhatWasRestoredIsNotWhole(t *testing.T) {
	t.Parallel()
	version := versions[0]
	old := newServer(t, "a").start(version).await()
	old.put("/registry/configmaps/default/c", 30, 100)
	saved := snapshotOf(t, old)
	old.kill()
	s := newServer(t, "b")
	if _, err := Stage(t.Context(), s.spec(saved.Path, fileSHA256(t, saved.Path))); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"never started", "written to since"} {
		if when != "never started" {
			s.start(version).await().put("/registry/pods/default/p", 5, 10)
			s.kill()
		}
		for _, part := range []string{"snap/db", "snap"} {
			there, away := filepath.Join(s.Dir, "member", part), filepath.Join(t.TempDir(), "away")
			if err := os.Rename(there, away); err != nil {
				t.Fatal(err)
			}
			if log, err := InspectLog(s.Dir, ""); err != nil || log.Whole {
				t.Errorf("%s, without %s: %+v: %v", when, part, log, err)
			}
			if err := os.Rename(away, there); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestALogThatDoesNotGoBackToTheBeginningIsNotWhole(t *testing.T) {
	t.Parallel()
	version := versions[len(versions)-1]
	s := newServer(t, "a").start(version, "--snapshot-count", "50").await()
	s.put("/registry/pods/default/p", 200, 100)
	s.kill()
	if err := os.Remove(dbPath(s.Dir)); err != nil {
		t.Fatal(err)
	}
	if log, err := InspectLog(s.Dir, ""); err != nil || log.Whole {
		t.Errorf("%+v: %v", log, err)
	}
	<-s.start(version).exited // such an etcd does not start
	if err := os.RemoveAll(filepath.Join(s.Dir, "member", "snap")); err != nil {
		t.Fatal(err)
	}
	if log, err := InspectLog(s.Dir, ""); err != nil || log.Whole {
		t.Errorf("without what etcd noted beside the db: %+v: %v", log, err)
	}
	if err := os.RemoveAll(filepath.Join(s.Dir, "member", "wal")); err != nil {
		t.Fatal(err)
	}
	if _, err := InspectLog(s.Dir, ""); !errors.Is(err, ErrNoWAL) && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a log: %v", err)
	}
}
