package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAnOldKernelTellsTheSameMount(t *testing.T) {
	for _, path := range []string{t.TempDir(), "/", "/proc", "/dev"} {
		a, err := mountID(path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := mountIDOfDescriptor(path)
		if err != nil || a != b {
			t.Errorf("the mount of %s is %d by statx and %d, %v by descriptor", path, a, b, err)
		}
	}
}

func TestRenameWithoutTheFlagDoesNotReplaceEither(t *testing.T) {
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	for _, path := range []string{a, b} {
		if err := os.WriteFile(path, []byte(path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := lookAndRename(a, b); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("error is %v", err)
	}
	if err := lookAndRename(a, c); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{b: b, c: a} {
		if data, err := os.ReadFile(path); err != nil || string(data) != want {
			t.Errorf("%s holds %q, %v", path, data, err)
		}
	}
}

func TestAFileSystemWithoutExchangeIsToldApart(t *testing.T) {
	// If one name is below the other, renameat2 returns EINVAL, as on a file
	// system without the flag.
	f := OS(t.TempDir())
	for _, dir := range []string{"/a", "/a/b"} {
		if err := f.Mkdir(dir, Mine(0o700)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Exchange("/a", "/a/b"); !errors.Is(err, ErrExchangeUnsupported) {
		t.Errorf("error is %v", err)
	}
}

func TestTheFileSystemsIDDoesNotDependOnTheName(t *testing.T) {
	f := OS(t.TempDir())
	if err := f.Mkdir("/a", Mine(0o700)); err != nil {
		t.Fatal(err)
	}
	a, err := f.FilesystemID("/a")
	if err != nil || !(strings.HasPrefix(a, "uuid:") || strings.HasPrefix(a, "fsid:")) {
		t.Errorf("the id is %q, %v", a, err)
	}
	proc, err := OS("/").FilesystemID("/proc")
	if err != nil || proc == a {
		t.Errorf("/proc has the id %q, %v, and so has %s", proc, err, f.Real("/a"))
	}
	if strings.Trim(a, "uid:0-") == "" {
		t.Errorf("a UUID of zeros was taken for one: %s", a)
	}
}
