package node_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// failing is a file system whose call number at fails; with crossing, Rename crosses file systems.
type failing struct {
	node.FS
	at, calls *int
	crossing  bool
}

var errInjected = errors.New("injected")

func (f failing) fail() error {
	if *f.calls++; *f.calls == *f.at {
		return errInjected
	}
	return nil
}

func (f failing) Create(path string, data []byte, attr node.Attr) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.FS.Create(path, data, attr)
}

func (f failing) Sync(path string) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.FS.Sync(path)
}

func (f failing) Replace(from, to string) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.FS.Replace(from, to)
}

func (f failing) Remove(path string) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.FS.Remove(path)
}

func (f failing) Rename(from, to string) error {
	if err := f.fail(); err != nil {
		return err
	}
	if f.crossing && filepath.Dir(from) != filepath.Dir(to) {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EXDEV}
	}
	return f.FS.Rename(from, to)
}

// failEach calls try with a fresh directory for each call that may fail, until none fails. After
// each failure it calls try again without one.
func failEach(t *testing.T, crossing bool, try func(t *testing.T, f node.FS, real node.FS, failed bool) error) {
	t.Helper()
	const most = 50
	for at := 1; at < most; at++ {
		real, calls := node.OS(t.TempDir()), 0
		f := failing{FS: real, at: &at, calls: &calls, crossing: crossing}
		failed := false
		t.Run(fmt.Sprintf("call %d fails", at), func(t *testing.T) {
			if err := try(t, f, real, false); err != nil {
				failed = true
				is(t, err, errInjected)
				ok(t, try(t, f, real, true))
			}
		})
		if !failed {
			if at < 4 {
				t.Fatalf("only %d calls could fail", at-1)
			}
			return
		}
	}
	t.Fatal("it never went through")
}

func TestWriteAtomicIsOldOrNewWhereverItFails(t *testing.T) {
	failEach(t, false, func(t *testing.T, f, real node.FS, again bool) error {
		if !again {
			ok(t, real.Create("/a", []byte("old"), node.Mine(0o640)))
		}
		err := node.WriteAtomic(f, "/a", []byte("new"), node.Attr{})
		data, readErr := real.ReadFile("/a")
		ok(t, readErr)
		if got := string(data); got != "new" && (err == nil || got != "old") {
			t.Errorf("the file holds %q after %v", got, err)
		}
		if err == nil {
			onlyNames(t, real, "/", "a")
		}
		return err
	})
}

// recording is a file system that records the calls that make things durable, in order.
type recording struct {
	node.FS
	calls *[]string
}

func (r recording) note(call ...string) { *r.calls = append(*r.calls, strings.Join(call, " ")) }

func (r recording) Create(path string, data []byte, attr node.Attr) error {
	r.note("create", path)
	return r.FS.Create(path, data, attr)
}
func (r recording) Mkdir(path string, attr node.Attr) error {
	r.note("mkdir", path)
	return r.FS.Mkdir(path, attr)
}
func (r recording) Sync(path string) error { r.note("sync", path); return r.FS.Sync(path) }
func (r recording) Replace(from, to string) error {
	r.note("replace", to)
	return r.FS.Replace(from, to)
}
func (r recording) Rename(from, to string) error {
	r.note("rename", from, to)
	if filepath.Dir(from) != filepath.Dir(to) {
		return syscall.EXDEV
	}
	return r.FS.Rename(from, to)
}
func (r recording) Remove(path string) error {
	err := r.FS.Remove(path)
	if err == nil {
		r.note("remove", path)
	}
	return err
}

func TestWhatIsDurableComesInOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(node.FS) error
		want string
	}{
		{"a write: contents, name, directory", func(f node.FS) error {
			return node.WriteAtomic(f, "/d/a", nil, node.Attr{})
		},
			"create /d/.a.etcdpod, sync /d/.a.etcdpod, replace /d/a, sync /d"},
		{"a move by copy: the copy's name before the original goes", func(f node.FS) error {
			return node.Move(f, "/d/x", "/e/x")
		},
			"rename /d/x /e/x, create /e/.x.etcdpod, sync /e/.x.etcdpod, rename /e/.x.etcdpod " +
				"/e/x, sync /e, remove /d/x, sync /d"},
		{"directories: from above", func(f node.FS) error { return node.MkdirAll(f, "/e/f/g", node.Mine(0o700)) },
			"sync /, mkdir /e/f, sync /e, mkdir /e/f/g, sync /e/f"},
		{"a directory that is there: its name once more",
			func(f node.FS) error { return node.MkdirAll(f, "/e", node.Mine(0o700)) }, "sync /"},
		{"a tree: what is in it before it", func(f node.FS) error { return node.SyncTree(f, "/d") },
			"sync /d/x, sync /d"},
		{"a removal: the directory last", func(f node.FS) error { return node.RemoveTree(f, "/d") },
			"remove /d/x, remove /d, sync /"},
		{"a removal that was done: the directory once more",
			func(f node.FS) error { return node.RemoveTree(f, "/d/none") }, "sync /d"},
		{"a removal where nothing is", func(f node.FS) error { return node.RemoveTree(f, "/none/none") }, "sync /none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, calls := node.OS(t.TempDir()), []string{}
			for _, dir := range []string{"/d", "/e"} {
				ok(t, f.Mkdir(dir, node.Mine(0o700)))
			}
			ok(t, f.Create("/d/x", []byte("x"), node.Mine(0o600)))
			ok(t, c.do(recording{f, &calls}))
			if got := strings.Join(calls, ", "); got != c.want {
				t.Errorf("the calls are\n%s, want\n%s", got, c.want)
			}
		})
	}
}

func TestWriteAtomicKeepsWhatItReplaces(t *testing.T) {
	for _, c := range []struct {
		name  string
		there fs.FileMode // 0: nothing
		attr  node.Attr
		want  fs.FileMode
	}{
		{"a new file is private", 0, node.Attr{}, 0o600},
		{"a new file has the mode that is given", 0, node.Mine(0o644), 0o644},
		{"an old file keeps its mode", 0o640, node.Attr{}, 0o640},
		{"an old file gets the mode that is given", 0o640, node.Mine(0o600), 0o600},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := node.OS(t.TempDir())
			if c.there != 0 {
				ok(t, f.Create("/a", []byte("old"), node.Mine(c.there)))
			}
			ok(t, node.WriteAtomic(f, "/a", []byte("new"), c.attr))
			if st, err := f.Lstat("/a"); err != nil || st.Mode != c.want {
				t.Errorf("mode is %v, %v, want %v", st.Mode, err, c.want)
			}
		})
	}
}

func TestWriteAtomicReplacesWhatADeadTryLeft(t *testing.T) {
	f := node.OS(t.TempDir())
	ok(t, f.Create("/.a.etcdpod", []byte("half"), node.Mine(0o400)))
	ok(t, node.WriteAtomic(f, "/a", []byte("whole"), node.Attr{}))
	onlyNames(t, f, "/", "a")
}

func TestWriteAtomicWritesThroughALink(t *testing.T) {
	root := t.TempDir()
	f := node.OS(root)
	ok(t, f.Mkdir("/d", node.Mine(0o700)))
	ok(t, f.Create("/d/real", []byte("old"), node.Mine(0o600)))
	ok(t, os.Symlink("/d/real", filepath.Join(root, "link")))
	ok(t, node.WriteAtomic(f, "/link", []byte("new"), node.Attr{}))
	if st, err := f.Lstat("/link"); err != nil || st.Mode&fs.ModeSymlink == 0 {
		t.Errorf("the link became %+v, %v", st, err)
	}
	if data, err := f.ReadFile("/d/real"); err != nil || string(data) != "new" {
		t.Errorf("what it points to holds %q, %v", data, err)
	}
}

func TestWriteAtomicRefusesADirectory(t *testing.T) {
	f := node.OS(t.TempDir())
	ok(t, f.Mkdir("/d", node.Mine(0o700)))
	err := node.WriteAtomic(f, "/d", nil, node.Attr{})
	if err == nil || !strings.Contains(err.Error(), "cannot write /d: not a regular file") {
		t.Errorf("error is %v", err)
	}
	onlyNames(t, f, "/", "d")
}

func TestMoveIsThereOnceOrTwiceButNeverGone(t *testing.T) {
	for _, crossing := range []bool{false, true} {
		t.Run(fmt.Sprintf("crossing file systems: %v", crossing), func(t *testing.T) {
			failEach(t, crossing, func(t *testing.T, f, real node.FS, again bool) error {
				if !again {
					ok(t, real.Mkdir("/from", node.Mine(0o700)))
					ok(t, real.Mkdir("/to", node.Mine(0o700)))
					ok(t, real.Create("/from/a", []byte("data"), node.Mine(0o640)))
				}
				err := node.Move(f, "/from/a", "/to/a")
				there := false
				for _, path := range []string{"/from/a", "/to/a"} {
					data, readErr := real.ReadFile(path)
					if readErr == nil && string(data) != "data" {
						t.Errorf("%s holds %q after %v", path, data, err)
					}
					there = there || readErr == nil
				}
				if !there {
					t.Errorf("neither name is there after %v", err)
				}
				if err == nil {
					onlyNames(t, real, "/from")
					onlyNames(t, real, "/to", "a")
					if st, err := real.Lstat("/to/a"); err != nil || st.Mode != 0o640 {
						t.Errorf("mode is %v, %v", st.Mode, err)
					}
				}
				return err
			})
		})
	}
}

func TestMoveRefuses(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to string
		crossing bool
		want     error
	}{
		{"another file of that name", "/a", "/b", false, fs.ErrExist},
		{"a directory of that name", "/a", "/d", false, fs.ErrExist},
		{"one name twice", "/a", "/a", false, fs.ErrExist},
		{"one name by a link of its directory", "/d/x", "/link/x", false, fs.ErrExist},
		{"a directory to another file system", "/d", "/d2/d", true, syscall.EXDEV},
		{"what is nowhere", "/none", "/none2", false, fs.ErrNotExist},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, never, calls := t.TempDir(), 0, 0
			f := node.OS(root)
			for _, path := range []string{"/d", "/d2"} {
				ok(t, f.Mkdir(path, node.Mine(0o700)))
			}
			for _, path := range []string{"/a", "/b", "/d/x"} {
				ok(t, f.Create(path, []byte(path), node.Mine(0o600)))
			}
			ok(t, os.Symlink("d", filepath.Join(root, "link")))
			is(t, node.Move(failing{FS: f, at: &never, calls: &calls, crossing: c.crossing}, c.from, c.to), c.want)
			for _, path := range []string{"/a", "/b", "/d/x"} {
				if data, err := f.ReadFile(path); err != nil || string(data) != path {
					t.Errorf("%s holds %q, %v", path, data, err)
				}
			}
		})
	}
}

func TestMoveFinishesWhatLeftTwoNamesOfOneFile(t *testing.T) {
	root := t.TempDir()
	f := node.OS(root)
	ok(t, f.Create("/a", []byte("data"), node.Mine(0o600)))
	ok(t, os.Link(filepath.Join(root, "a"), filepath.Join(root, "b")))
	ok(t, node.Move(f, "/a", "/b"))
	onlyNames(t, f, "/", "b")
}

func TestCopyFileNeverReplaces(t *testing.T) {
	f := node.OS(t.TempDir())
	ok(t, f.Create("/a", []byte("a"), node.Mine(0o444)))
	ok(t, node.CopyFile(f, "/a", "/b"))
	is(t, node.CopyFile(f, "/a", "/b"), fs.ErrExist)
	onlyNames(t, f, "/", "a", "b")
	if st, err := f.Lstat("/b"); err != nil || st.Mode != 0o444 {
		t.Errorf("mode is %v, %v", st.Mode, err)
	}
}

func TestTreesAreMadeAndRemoved(t *testing.T) {
	root := t.TempDir()
	f := node.OS(root)
	ok(t, node.MkdirAll(f, "/a/b/c", node.Mine(0o750)))
	ok(t, node.MkdirAll(f, "/a/b/c", node.Mine(0o700)))
	if st, err := f.Lstat("/a/b"); err != nil || st.Mode != fs.ModeDir|0o750 {
		t.Errorf("mode is %v, %v", st.Mode, err)
	}
	ok(t, f.Create("/a/b/file", nil, node.Mine(0o600)))
	ok(t, f.Create("/kept", nil, node.Mine(0o600)))
	ok(t, os.Symlink("/kept", filepath.Join(root, "a/link")))
	is(t, node.MkdirAll(f, "/a/b/file/x", node.Mine(0o700)), syscall.ENOTDIR)
	ok(t, node.SyncTree(f, "/a"))
	ok(t, node.RemoveTree(f, "/a"))
	ok(t, node.RemoveTree(f, "/a"))
	onlyNames(t, f, "/", "kept")
}

func onlyNames(t *testing.T, f node.FS, dir string, want ...string) {
	t.Helper()
	names, err := f.ReadDir(dir)
	ok(t, err)
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %v, want %v", dir, names, want)
	}
}
