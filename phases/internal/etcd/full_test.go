package etcd

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A full disk must be found out before etcd's own code writes: it does so from goroutines of its
// own, and a panic there ends the program.
func TestADiskThatIsTooFullForTheLogIsSaidBeforeItIsApplied(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const version = "3.6.16"
	s := newServer(t, "a").start(version).await()
	s.put("/old/", 5, 10)
	s.stop()
	db := filepath.Join(s.Dir, "member", "snap", "db")
	old, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	s.start(version).await().put("/new/", 60, 1<<20)
	s.stop()
	if err := os.WriteFile(db, old, 0o600); err != nil {
		t.Fatal(err)
	}
	disk, done := t.TempDir(), make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: thread and mount end together
		err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("tmpfs", disk, "tmpfs", 0, "size=48m"))
		if err == nil {
			_, made := SnapshotFromDataDir(t.Context(), s.Dir, "", filepath.Join(disk, "out.db"), nil)
			if !errors.Is(made, unix.ENOSPC) || !strings.Contains(made.Error(), "not enough space to apply the log") {
				t.Errorf("it says %v", made)
			}
			if left, err := os.ReadDir(disk); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Skipf("cannot have a mount of its own: %v", err)
	}
	made, err := SnapshotFromDataDir(t.Context(), s.Dir, "", filepath.Join(t.TempDir(), "out.db"), nil)
	if err != nil || made.Applied < 60 {
		t.Errorf("with room enough: %v %+v", err, made)
	}
}
