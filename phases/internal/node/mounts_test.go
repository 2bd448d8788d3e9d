package node_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// inOwnMounts runs do on a thread with private mounts; the thread ends with it. do may call
// t.Error, but not t.Fatal.
func inOwnMounts(t *testing.T, do func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime then ends the thread
		err := syscall.Unshare(syscall.CLONE_NEWNS)
		if err == nil {
			err = syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
		}
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Skipf("cannot have mounts of its own: %v", err)
	}
}

func TestABindMountIsSeen(t *testing.T) {
	root := t.TempDir()
	f := node.OS(root)
	for _, dir := range []string{"/data/etcd/member", "/disk"} {
		ok(t, node.MkdirAll(f, dir, node.Mine(0o700)))
	}
	ok(t, f.Create("/disk/kept", nil, node.Mine(0o600)))
	inOwnMounts(t, func() {
		disk, etcd := filepath.Join(root, "disk"), filepath.Join(root, "data/etcd")
		if err := syscall.Mount(disk, etcd, "", syscall.MS_BIND, ""); err != nil {
			t.Errorf("cannot mount: %v", err)
			return
		}
		if is, err := node.IsMountPoint(f, "/data/etcd"); err != nil || !is {
			t.Errorf("a bind mount is a mount point: %v, %v", is, err)
		}
		if is, err := node.IsMountPoint(f, "/data"); err != nil || is {
			t.Errorf("its parent is a mount point: %v, %v", is, err)
		}
		if same, err := node.SameMount(f, "/data/etcd/kept", "/disk/kept"); err != nil || same {
			t.Errorf("two mounts of one file system are the same: %v, %v", same, err)
		}
		expect(t, "removing a tree with a mount in it", node.RemoveTree(f, "/data"), syscall.EBUSY)
		expect(t, "removing a mount point", node.RemoveTree(f, "/data/etcd"), syscall.EBUSY)
		expect(t, "renaming across mounts", f.Rename("/data/etcd/kept", "/disk/moved"), syscall.EXDEV)
		expect(t, "moving a name onto itself by another mount",
			node.Move(f, "/data/etcd/kept", "/disk/kept"), fs.ErrExist)
		expect(t, "exchanging a mount point", f.Exchange("/data/etcd", "/disk"), syscall.EBUSY)
	})
	if _, err := f.Lstat("/disk/kept"); err != nil {
		t.Error(err)
	}
}

func TestAFullOrReadOnlyDiskLeavesTheOldFile(t *testing.T) {
	root := t.TempDir()
	f := node.OS(root)
	inOwnMounts(t, func() {
		if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size=64k"); err != nil {
			t.Errorf("cannot mount: %v", err)
			return
		}
		expect(t, "writing a small file", node.WriteAtomic(f, "/a", []byte("old"), node.Attr{}), nil)
		big := make([]byte, 256<<10)
		expect(t, "creating a file that does not fit", f.Create("/b", big, node.Mine(0o600)), syscall.ENOSPC)
		expect(t, "replacing by what does not fit", node.WriteAtomic(f, "/a", big, node.Attr{}), syscall.ENOSPC)
		expect(t, "allocating what does not fit", f.Allocate("/a", int64(len(big))), syscall.ENOSPC)
		if names, err := f.ReadDir("/"); err != nil || strings.Join(names, " ") != "a" {
			t.Errorf("left are %v, %v", names, err)
		}
		expect(t, "allocating what fits", f.Allocate("/a", 32<<10), nil)
		if free, err := f.Free("/"); err != nil || free > 32<<10 {
			t.Errorf("free are %d bytes, %v", free, err)
		}
		expect(t, "truncating", f.Truncate("/a", 3), nil)
		if free, err := f.Free("/"); err != nil || free <= 32<<10 {
			t.Errorf("free after truncating are %d bytes, %v", free, err)
		}
		if err := syscall.Mount("", root, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Errorf("cannot make it read-only: %v", err)
		}
		expect(t, "writing to a read-only disk", node.WriteAtomic(f, "/a", []byte("new"), node.Attr{}), syscall.EROFS)
		if data, err := f.ReadFile("/a"); err != nil || string(data) != "old" {
			t.Errorf("the file holds %q, %v", data, err)
		}
	})
}

func TestAMoveBetweenFileSystemsKeepsOwnerModeAndLabel(t *testing.T) {
	root := t.TempDir()
	f := node.OS(root)
	ok(t, f.Mkdir("/other", node.Mine(0o700)))
	attr := node.Attr{Mode: 0o640, UID: 123, GID: 456, Label: "system_u:object_r:etc_t:s0"}
	inOwnMounts(t, func() {
		if err := syscall.Mount("tmpfs", filepath.Join(root, "other"), "tmpfs", 0, "size=64k"); err != nil {
			t.Errorf("cannot mount: %v", err)
			return
		}
		err := f.Create("/a", []byte("data"), attr)
		if errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) {
			t.Logf("no labels here (%v): owner and mode only", err)
			attr.Label = ""
			err = f.Create("/a", []byte("data"), attr)
		}
		expect(t, "creating", err, nil)
		expect(t, "moving", node.Move(f, "/a", "/other/a"), nil)
		expect(t, "replacing", node.WriteAtomic(f, "/other/a", []byte("new"), node.Attr{}), nil)
		st, err := f.Lstat("/other/a")
		if err != nil || st.Attr() != attr {
			t.Errorf("its attributes are %+v, %v, want %+v", st.Attr(), err, attr)
		}
		_, err = f.Lstat("/a")
		expect(t, "looking for the old name", err, fs.ErrNotExist)
	})
}

// expect may be used outside the test's goroutine.
func expect(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error is %v, want %v", what, err, want)
	}
}

func TestAMountOfASingleFileIsSeen(t *testing.T) {
	root := t.TempDir()
	f := node.OS(root)
	for _, dir := range []string{"/etcd/member/snap", "/etcd/member/wal"} {
		ok(t, node.MkdirAll(f, dir, node.Mine(0o700)))
	}
	ok(t, f.Create("/etcd/member/snap/db", nil, node.Mine(0o600)))
	ok(t, f.Create("/other", nil, node.Mine(0o600)))
	if at, err := node.MountIn(f, "/etcd/member"); at != "" || err != nil {
		t.Errorf("nothing is mounted: %q, %v", at, err)
	}
	if at, err := node.MountIn(f, "/etcd/none"); at != "" || err != nil {
		t.Errorf("what is not there: %q, %v", at, err)
	}
	inOwnMounts(t, func() {
		db := filepath.Join(root, "etcd/member/snap/db")
		if err := syscall.Mount(filepath.Join(root, "other"), db, "", syscall.MS_BIND, ""); err != nil {
			t.Errorf("cannot mount: %v", err)
			return
		}
		if at, err := node.MountIn(f, "/etcd/member"); at != "/etcd/member/snap/db" || err != nil {
			t.Errorf("a bind mount on a file: %q, %v", at, err)
		}
	})
}
