package node_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/node/nodetest"
)

// holdVariable makes this test binary a process that locks a file, or holds it open,
// until its input ends.
const holdVariable = "NODE_TEST_HOLD"

func TestMain(m *testing.M) {
	how, path, ok := strings.Cut(os.Getenv(holdVariable), ":")
	if ok && how == "crash" {
		os.Exit(crash(path))
	}
	if ok {
		os.Exit(hold(how, path))
	}
	os.Exit(m.Run())
}

func hold(how, path string) int {
	f, err := os.Open(path)
	if err == nil && how == "lock" {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil && how == "map" {
		_, err = unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		return 1
	}
	os.Stdout.WriteString("held\n")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	return 0
}

// holder starts such a process, and returns its id and a function that ends it.
func holder(t *testing.T, how, path string, argv ...string) (pid int, end func()) {
	t.Helper()
	self, err := os.Executable()
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, self)
	if len(argv) > 0 {
		cmd.Args = argv
	}
	cmd.Env = append(os.Environ(), holdVariable+"="+how+":"+path)
	_, err = cmd.StdinPipe()
	ok(t, err)
	stdout, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	end = func() { cancel(); _ = cmd.Wait() }
	t.Cleanup(end)
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "held\n" {
		t.Fatalf("the other process says %q", line)
	}
	return cmd.Process.Pid, end
}

func TestTheMachineConforms(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	nodetest.Conformance(t, node.OS(t.TempDir()))
}

func TestALockOfAnotherProcessExcludes(t *testing.T) {
	root := t.TempDir()
	f := node.OS(root)
	ok(t, f.Create("/db", nil, node.Mine(0o600)))
	_, end := holder(t, "lock", filepath.Join(root, "db"))
	_, err := f.Lock("/db")
	is(t, err, node.ErrLocked)
	end()
	unlock, err := f.Lock("/db")
	ok(t, err)
	ok(t, unlock())
}

func TestResolveKeepsLinksBelowTheRoot(t *testing.T) {
	root := t.TempDir()
	ok(t, os.MkdirAll(filepath.Join(root, "data/etcd"), 0o755))
	ok(t, os.MkdirAll(filepath.Join(root, "var/lib"), 0o755))
	for name, target := range map[string]string{
		"absolute": "/data/etcd", "var/lib/etcd": "../../data/etcd", "up": "../../../..", "dangling": "/data/new",
		"far": "/data/none/new", "loop": "/loop", "file/": "", "chain": "absolute",
	} {
		if target != "" {
			ok(t, os.Symlink(target, filepath.Join(root, name)))
		}
	}
	f := node.OS(root)
	ok(t, f.Create("/data/file", []byte("x"), node.Mine(0o600)))
	for _, c := range []struct {
		name, path, want string
		err              error
	}{
		{"an absolute link is taken below the root", "/absolute/member", "/data/etcd/member", nil},
		{"a relative link", "/var/lib/etcd", "/data/etcd", nil},
		{"a link to a link", "/chain", "/data/etcd", nil},
		{"dots cannot leave the root", "/up/data", "/data", nil},
		{"a link to a name that is free", "/dangling", "/data/new", nil},
		{"a link into nothing", "/far", "", fs.ErrNotExist},
		{"a loop", "/loop", "", syscall.ELOOP},
		{"below a file", "/data/file/x", "", syscall.ENOTDIR},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := f.Resolve(c.path)
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("Resolve(%q) = %q, %v, want %q, %v", c.path, got, err, c.want, c.err)
			}
		})
	}
	for path, want := range map[string]string{
		"/far": "/data/none/new", "/far/x/y": "/data/none/new/x/y", "/none/x/y": "/none/x/y", "/loop/x": "/loop/x",
		"/absolute/x/y": "/data/etcd/x/y", "/up/none/x": "/none/x",
	} {
		if got := node.Resolved(f, path); got != want {
			t.Errorf("Resolved(%q) = %q, want %q", path, got, want)
		}
	}
	ok(t, f.Create("/absolute/new", []byte("here"), node.Mine(0o600)))
	if data, err := os.ReadFile(filepath.Join(root, "data/etcd/new")); string(data) != "here" {
		t.Errorf("writing through an absolute link went elsewhere: %v", err)
	}
	if got, want := f.Real("/absolute/new"), filepath.Join(root, "data/etcd/new"); got != want {
		t.Errorf("Real is %s, want %s", got, want)
	}
}

// The kubelet watches the static-pod directory. A manifest that it is told has gone last, it drops.
func TestAWatcherSeesTheFirstNameOfAnExchangeComeBack(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"manifest", ".beside"} {
		ok(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK)
	ok(t, err)
	defer unix.Close(watch)
	_, err = unix.InotifyAddWatch(watch, dir, unix.IN_ALL_EVENTS)
	ok(t, err)
	ok(t, node.OS("/").Exchange(filepath.Join(dir, "manifest"), filepath.Join(dir, ".beside")))

	var said []string
	events := make([]byte, 4096)
	n, err := unix.Read(watch, events)
	ok(t, err)
	for events = events[:n]; len(events) >= unix.SizeofInotifyEvent; {
		mask, length := binary.NativeEndian.Uint32(events[4:]), binary.NativeEndian.Uint32(events[12:])
		name := strings.TrimRight(string(events[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+length]), "\x00")
		events = events[unix.SizeofInotifyEvent+length:]
		if name == "manifest" {
			said = append(said, map[uint32]string{unix.IN_MOVED_FROM: "gone", unix.IN_MOVED_TO: "there"}[mask])
		}
	}
	if got := strings.Join(said, ", "); got != "gone, there" {
		t.Errorf("it is told: %s", got)
	}
}

func TestAFIFOIsNotRead(t *testing.T) {
	root := t.TempDir()
	ok(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	_, err := node.OS(root).ReadFile("/fifo")
	if err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("error is %v", err)
	}
}

func TestAFailedCreateLeavesNothing(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may give files away")
	}
	f := node.OS(t.TempDir())
	is(t, f.Create("/a", []byte("x"), node.Attr{Mode: 0o600, UID: 0, GID: 0}), syscall.EPERM)
	_, err := f.Lstat("/a")
	is(t, err, fs.ErrNotExist)
}

func TestAnotherOwnerIsSet(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	f := node.OS(t.TempDir())
	attr := node.Attr{Mode: 0o640, UID: 12345, GID: 54321}
	ok(t, f.Create("/a", []byte("x"), attr))
	ok(t, f.Mkdir("/d", attr))
	for _, path := range []string{"/a", "/d"} {
		if st, err := f.Lstat(path); err != nil || st.UID != 12345 || st.GID != 54321 || st.Mode.Perm() != 0o640 {
			t.Errorf("%s is %+v, %v", path, st, err)
		}
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}
