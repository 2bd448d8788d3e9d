// Package nodetest says what a [node.FS] must do, so that the real and the simulated file system
// meet the same tests.
package nodetest

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Conformance runs the suite in its own directories below the root of f, which
// must be one file system.
func Conformance(t *testing.T, f node.FS) {
	t.Helper()
	for i, c := range []struct {
		name string
		run  func(t *testing.T, f node.FS, dir string)
	}{
		{"create writes a file with its attributes", create},
		{"create never replaces", createExclusive},
		{"append adds to the end and creates 0600", appending},
		{"allocate leaves the length", allocate},
		{"truncate cuts", truncate},
		{"a directory has exactly its mode and lists sorted names", directory},
		{"attributes can be changed", attributes},
		{"rename moves and keeps the identity", rename},
		{"rename never replaces", renameNoReplace},
		{"replace replaces a file", replace},
		{"exchange swaps two directories", exchange},
		{"a lock excludes another and ends with unlock", lock},
		{"a lock follows the file, not the name", lockFollows},
		{"remove takes files and empty directories only", remove},
		{"sync takes files and directories", syncing},
		{"what is not there is ErrNotExist", notExist},
		{"resolve lets only the last element be absent", resolve},
		{"one root is one file system", oneFileSystem},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := fmt.Sprintf("/conformance-%02d", i)
			ok(t, f.Mkdir(dir, node.Mine(0o755)))
			c.run(t, f, dir)
		})
	}
}

func create(t *testing.T, f node.FS, dir string) {
	for _, mode := range []fs.FileMode{0o600, 0o640, 0o666, 0o400} {
		name := fmt.Sprintf("%s/%o", dir, mode)
		ok(t, f.Create(name, []byte("data"), node.Mine(mode)))
		st := lstat(t, f, name)
		if !st.Mode.IsRegular() || st.Attr() != (node.Attr{Mode: mode, UID: st.UID, GID: st.GID, Label: st.Label}) ||
			st.Size != 4 {
			t.Errorf("a file of mode %o became %+v", mode, st)
		}
		if mine := node.Mine(mode); st.UID != mine.UID || st.GID != mine.GID {
			t.Errorf("owner is %d:%d, want %d:%d", st.UID, st.GID, mine.UID, mine.GID)
		}
		has(t, f, name, "data")
	}
}

func createExclusive(t *testing.T, f node.FS, dir string) {
	put(t, f, dir+"/a", "old")
	is(t, f.Create(dir+"/a", []byte("new"), node.Mine(0o600)), fs.ErrExist)
	has(t, f, dir+"/a", "old")
	is(t, f.Mkdir(dir+"/a", node.Mine(0o700)), fs.ErrExist)
}

func appending(t *testing.T, f node.FS, dir string) {
	ok(t, f.Append(dir+"/a", []byte("one")))
	ok(t, f.Append(dir+"/a", []byte("two")))
	has(t, f, dir+"/a", "onetwo")
	if mode := lstat(t, f, dir+"/a").Mode; mode != 0o600 {
		t.Errorf("mode is %v, want 0600", mode)
	}
}

func allocate(t *testing.T, f node.FS, dir string) {
	ok(t, f.Allocate(dir+"/new", 4096))
	if st := lstat(t, f, dir+"/new"); st.Size != 0 || st.Mode != 0o600 {
		t.Errorf("a file that Allocate made is %+v", st)
	}
	put(t, f, dir+"/old", "data")
	ok(t, f.Allocate(dir+"/old", 4096))
	ok(t, f.Append(dir+"/old", []byte("more")))
	has(t, f, dir+"/old", "datamore")
	// Larger than any file may be: an implementation that does not check first also fails,
	// without filling the disk.
	is(t, f.Allocate(dir+"/huge", 1<<60), syscall.ENOSPC)
}

func truncate(t *testing.T, f node.FS, dir string) {
	put(t, f, dir+"/a", "123456")
	ok(t, f.Truncate(dir+"/a", 3))
	has(t, f, dir+"/a", "123")
}

func directory(t *testing.T, f node.FS, dir string) {
	ok(t, f.Mkdir(dir+"/d", node.Mine(0o777)))
	if mode := lstat(t, f, dir+"/d").Mode; mode != fs.ModeDir|0o777 {
		t.Errorf("mode is %v", mode)
	}
	for _, name := range []string{"c", ".a", "b"} {
		put(t, f, dir+"/d/"+name, "")
	}
	names, err := f.ReadDir(dir + "/d")
	ok(t, err)
	if got := strings.Join(names, " "); got != ".a b c" {
		t.Errorf("names are %q", got)
	}
	_, err = f.ReadDir(dir + "/d/b")
	is(t, err, syscall.ENOTDIR)
}

func attributes(t *testing.T, f node.FS, dir string) {
	put(t, f, dir+"/a", "data")
	ok(t, f.SetAttr(dir+"/a", node.Mine(0o440)))
	ok(t, f.SetAttr(dir, node.Mine(0o711)))
	if st := lstat(t, f, dir+"/a"); st.Mode != 0o440 {
		t.Errorf("the file's mode is %v", st.Mode)
	}
	if st := lstat(t, f, dir); st.Mode != fs.ModeDir|0o711 {
		t.Errorf("the directory's mode is %v", st.Mode)
	}
}

func rename(t *testing.T, f node.FS, dir string) {
	ok(t, f.Mkdir(dir+"/d", node.Mine(0o700)))
	put(t, f, dir+"/d/a", "data")
	before := lstat(t, f, dir+"/d")
	ok(t, f.Rename(dir+"/d", dir+"/e"))
	is(t, statError(f, dir+"/d"), fs.ErrNotExist)
	has(t, f, dir+"/e/a", "data")
	if after := lstat(t, f, dir+"/e"); after.Ino != before.Ino || after.Dev != before.Dev {
		t.Errorf("the identity changed from %d:%d to %d:%d", before.Dev, before.Ino, after.Dev, after.Ino)
	}
}

func renameNoReplace(t *testing.T, f node.FS, dir string) {
	put(t, f, dir+"/a", "a")
	put(t, f, dir+"/b", "b")
	is(t, f.Rename(dir+"/a", dir+"/b"), fs.ErrExist)
	has(t, f, dir+"/a", "a")
	has(t, f, dir+"/b", "b")
	ok(t, f.Mkdir(dir+"/empty", node.Mine(0o700)))
	ok(t, f.Mkdir(dir+"/full", node.Mine(0o700)))
	put(t, f, dir+"/full/x", "x")
	is(t, f.Rename(dir+"/full", dir+"/empty"), fs.ErrExist)
	has(t, f, dir+"/full/x", "x")
}

func replace(t *testing.T, f node.FS, dir string) {
	put(t, f, dir+"/a", "a")
	put(t, f, dir+"/b", "b")
	want := lstat(t, f, dir+"/a")
	ok(t, f.Replace(dir+"/a", dir+"/b"))
	has(t, f, dir+"/b", "a")
	is(t, statError(f, dir+"/a"), fs.ErrNotExist)
	if got := lstat(t, f, dir+"/b"); got.Ino != want.Ino {
		t.Errorf("the inode is %d, want %d", got.Ino, want.Ino)
	}
	ok(t, f.Replace(dir+"/b", dir+"/new"))
	has(t, f, dir+"/new", "a")
}

func exchange(t *testing.T, f node.FS, dir string) {
	for _, name := range []string{"a", "b"} {
		ok(t, f.Mkdir(dir+"/"+name, node.Mine(0o700)))
		put(t, f, dir+"/"+name+"/file", name)
	}
	a, b := lstat(t, f, dir+"/a"), lstat(t, f, dir+"/b")
	err := f.Exchange(dir+"/a", dir+"/b")
	if errors.Is(err, node.ErrExchangeUnsupported) {
		has(t, f, dir+"/a/file", "a")
		has(t, f, dir+"/b/file", "b")
		t.Skip("this file system cannot exchange, and left both names alone")
	}
	ok(t, err)
	has(t, f, dir+"/a/file", "b")
	has(t, f, dir+"/b/file", "a")
	if nowA, nowB := lstat(t, f, dir+"/a"), lstat(t, f, dir+"/b"); nowA.Ino != b.Ino || nowB.Ino != a.Ino {
		t.Errorf("inodes %d and %d became %d and %d", a.Ino, b.Ino, nowA.Ino, nowB.Ino)
	}
	is(t, f.Exchange(dir+"/a", dir+"/none"), fs.ErrNotExist)
	has(t, f, dir+"/a/file", "b")
}

func lock(t *testing.T, f node.FS, dir string) {
	put(t, f, dir+"/a", "")
	put(t, f, dir+"/b", "")
	unlock, err := f.Lock(dir + "/a")
	ok(t, err)
	_, err = f.Lock(dir + "/a")
	is(t, err, node.ErrLocked)
	other, err := f.Lock(dir + "/b")
	ok(t, err)
	ok(t, other())
	ok(t, unlock())
	again, err := f.Lock(dir + "/a")
	ok(t, err)
	ok(t, again())
}

func lockFollows(t *testing.T, f node.FS, dir string) {
	put(t, f, dir+"/a", "")
	unlock, err := f.Lock(dir + "/a")
	ok(t, err)
	ok(t, f.Rename(dir+"/a", dir+"/b"))
	put(t, f, dir+"/a", "")
	_, err = f.Lock(dir + "/b")
	is(t, err, node.ErrLocked)
	other, err := f.Lock(dir + "/a")
	ok(t, err)
	ok(t, other())
	ok(t, unlock())
}

func remove(t *testing.T, f node.FS, dir string) {
	ok(t, f.Mkdir(dir+"/d", node.Mine(0o700)))
	put(t, f, dir+"/d/a", "")
	is(t, f.Remove(dir+"/d"), syscall.ENOTEMPTY)
	ok(t, f.Remove(dir+"/d/a"))
	ok(t, f.Remove(dir+"/d"))
	is(t, statError(f, dir+"/d"), fs.ErrNotExist)
}

func syncing(t *testing.T, f node.FS, dir string) {
	put(t, f, dir+"/a", "data")
	ok(t, f.Sync(dir+"/a"))
	ok(t, f.Sync(dir))
	ok(t, f.Sync("/"))
	has(t, f, dir+"/a", "data")
}

func notExist(t *testing.T, f node.FS, dir string) {
	none, below := dir+"/none", dir+"/none/below"
	for op, err := range map[string]error{
		"lstat":              statError(f, none),
		"read":               second(f.ReadFile(none)),
		"readdir":            second(f.ReadDir(none)),
		"truncate":           f.Truncate(none, 0),
		"setattr":            f.SetAttr(none, node.Mine(0o600)),
		"rename":             f.Rename(none, dir+"/x"),
		"replace":            f.Replace(none, dir+"/x"),
		"exchange":           f.Exchange(none, dir),
		"remove":             f.Remove(none),
		"sync":               f.Sync(none),
		"lock":               second(f.Lock(none)),
		"create in nothing":  f.Create(below, nil, node.Mine(0o600)),
		"append in nothing":  f.Append(below, nil),
		"mkdir in nothing":   f.Mkdir(below, node.Mine(0o700)),
		"resolve in nothing": second(f.Resolve(below)),
		"free":               second(f.Free(below)),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error is %v, want fs.ErrNotExist", op, err)
		}
	}
	is(t, statError(f, none), fs.ErrNotExist)
}

func resolve(t *testing.T, f node.FS, dir string) {
	for path, want := range map[string]string{
		dir:                dir,
		dir + "/absent":    dir + "/absent",
		dir + "/./../":     "/",
		"/":                "/",
		dir + "//double//": dir + "/double",
	} {
		got, err := f.Resolve(path)
		if err != nil || got != want {
			t.Errorf("Resolve(%q) = %q, %v, want %q", path, got, err, want)
		}
	}
}

func oneFileSystem(t *testing.T, f node.FS, dir string) {
	a, err := f.FilesystemID("/")
	ok(t, err)
	b, err := f.FilesystemID(dir)
	ok(t, err)
	if a != b || a == "" {
		t.Errorf("the root's file system is %q, a directory's below it %q", a, b)
	}
	same, err := node.SameMount(f, "/", dir)
	ok(t, err)
	if !same {
		t.Error("a directory that nothing is mounted at is on another mount")
	}
}

func put(t *testing.T, f node.FS, path, data string) {
	t.Helper()
	ok(t, f.Create(path, []byte(data), node.Mine(0o600)))
}

func has(t *testing.T, f node.FS, path, want string) {
	t.Helper()
	got, err := f.ReadFile(path)
	if err != nil || string(got) != want {
		t.Fatalf("%s holds %q, %v, want %q", path, got, err, want)
	}
}

func lstat(t *testing.T, f node.FS, path string) node.Stat {
	t.Helper()
	st, err := f.Lstat(path)
	ok(t, err)
	return st
}

func statError(f node.FS, path string) error { return second(f.Lstat(path)) }

func second[T any](_ T, err error) error { return err }

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
