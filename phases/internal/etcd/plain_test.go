package etcd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// Opening a pipe, or reading from it, takes until somebody writes: for ever.
func TestAPipeAmongTheDataIsBadAndKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	s := newServer(t, "a").start("3.6.16").await()
	s.put("/x/", 5, 10)
	s.stop()
	for _, name := range []string{dbPath(s.Dir), lastWAL(t, filepath.Join(s.Dir, "member", "wal"))} {
		away := filepath.Join(t.TempDir(), "away")
		if err := errors.Join(os.Rename(name, away), unix.Mkfifo(name, 0o600)); err != nil {
			t.Fatal(err)
		}
		over := make(chan error, 1)
		go func() {
			_, err := Inspect(t.Context(), s.Dir, "")
			over <- err
		}()
		select {
		case err := <-over:
			var bad *snapfile.Bad
			if !errors.As(err, &bad) || bad.Check != snapfile.CheckFile {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s is still being read", name)
		}
		if err := errors.Join(os.Remove(name), os.Rename(away, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Inspect(t.Context(), s.Dir, ""); err != nil {
		t.Error(err)
	}
}
