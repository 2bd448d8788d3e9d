package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func make700(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADirectoryIsExposedAsSSHDSeesIt(t *testing.T) {
	root := t.TempDir()
	make700(t, root, root+"/a", root+"/a/b")
	disk := OS(root)
	for name, c := range map[string]struct {
		dir  string // whose mode it is
		mode os.FileMode
		says string
	}{
		"its own":                {"/a/b", 0o700, ""},
		"others read it":         {"/a/b", 0o755, ""},
		"everybody writes to it": {"/a/b", 0o777, "/a/b is writable by everyone"},
		"everybody may rename it, from the one above": {"/a", 0o777, "/a is writable by everyone"},
		"sticky":            {"/a/b", 0o777 | os.ModeSticky, ""},
		"sticky, one above": {"/a", 0o777 | os.ModeSticky, ""},
	} {
		t.Run(name, func(t *testing.T) {
			make700(t, root+"/a", root+"/a/b")
			if err := os.Chmod(root+c.dir, c.mode); err != nil {
				t.Fatal(err)
			}
			if why, err := Exposed(disk, "/a/b"); err != nil || why != c.says {
				t.Errorf("%q, %v", why, err)
			}
		})
	}
	for name, c := range map[string]struct {
		st   Stat
		want bool
	}{
		"another's":                {Stat{UID: os.Geteuid() + 1, Mode: 0o700}, true},
		"another's, sticky":        {Stat{UID: os.Geteuid() + 1, Mode: 0o777 | fs.ModeSticky}, true},
		"a group's":                {Stat{UID: os.Geteuid(), GID: os.Getegid() + 1, Mode: 0o770}, true},
		"the group of root's":      {Stat{Mode: 0o770}, false},
		"the group of this user's": {Stat{UID: os.Geteuid(), GID: os.Getegid(), Mode: 0o770}, false},
	} {
		if got := c.st.exposed() != ""; got != c.want {
			t.Errorf("%s: exposed %v", name, got)
		}
	}
}

func TestAHeldDirectoryStaysTheSame(t *testing.T) {
	root := t.TempDir()
	make700(t, root+"/is", root+"/other")
	disk := OS(root)
	held, err := disk.Hold("/is")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := errors.Join(os.Rename(root+"/is", root+"/was"), os.Symlink("other", root+"/is")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(held.Dir, "f")
	if err := errors.Join(disk.Create(file, []byte("data"), Mine(0o600)), disk.Sync(file), disk.Sync(held.Dir),
		disk.Rename(file, filepath.Join(held.Dir, "g"))); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(root + "/was/g"); err != nil || string(data) != "data" {
		t.Errorf("%q, %v", data, err)
	}
	names, err := disk.ReadDir(held.Dir)
	if err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
	was, err := disk.Lstat("/was")
	st, heldErr := disk.Lstat(held.Dir)
	if err != nil || heldErr != nil || st.Ino != was.Ino || !st.Mode.IsDir() {
		t.Errorf("%+v and %+v: %v, %v", st, was, err, heldErr)
	}
	if _, err := disk.Hold("/absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestWhatSomebodyElseMayHavePutThereIsReadPlainly(t *testing.T) {
	dir := t.TempDir()
	disk := OS(dir)
	if err := errors.Join(os.WriteFile(dir+"/f", []byte("data"), 0o600), os.Symlink("f", dir+"/link"),
		syscall.Mkfifo(dir+"/fifo", 0o600)); err != nil {
		t.Fatal(err)
	}
	if data, st, err := disk.ReadPlain("/f", 4); err != nil || string(data) != "data" || st.Ino == 0 {
		t.Errorf("%q, %v", data, err)
	}
	for name, says := range map[string]string{"/link": "symbolic links", "/fifo": "not a regular file",
		"/": "regular"} {
		if _, _, err := disk.ReadPlain(name, 4); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := disk.ReadPlain("/f", 3); err == nil {
		t.Error("it was too large, and was read")
	}
}

func TestADirectoryIsInsideAnotherUnderWhateverName(t *testing.T) {
	root := t.TempDir()
	make700(t, root+"/data/sub", root+"/backups")
	if err := errors.Join(os.Symlink("/data", root+"/link"), os.Symlink("/data/sub", root+"/deep")); err != nil {
		t.Fatal(err)
	}
	disk := OS(root)
	for dir, want := range map[string]bool{"/data": true, "/data/sub": true, "/link": true, "/link/new/dir": true,
		"/deep": true, "/backups": false, "/database": false, "/": false} {
		if Inside(disk, dir, "/data") != want {
			t.Errorf("%s: not %v", dir, want)
		}
	}
	if !Inside(disk, "/data/sub", "/link") {
		t.Error("the outer one is a link")
	}
}
