package op

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

func scratchTarget(root string) *Target {
	return &Target{Host: &node.Host{FS: node.OS(root), Clock: node.WallClock()}}
}

func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestAScratchDirectoryIsNobodyElsesAndGoes(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	target := scratchTarget(root)
	one, err := OpenScratch(t.Context(), target, "/")
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(filepath.Join(root, one.Dir))
	if err != nil || st.Mode().Perm() != 0o700 || !st.IsDir() {
		t.Fatalf("%v, %v", st, err)
	}
	two, err := OpenScratch(t.Context(), target, "/") // the first one lives
	if err != nil || two.Dir == one.Dir {
		t.Fatalf("%+v, %v", two, err)
	}
	if n := namesIn(t, root); len(n) != 2 {
		t.Errorf("there are %q", n)
	}
	for _, s := range []*Scratch{one, two} {
		if err := os.WriteFile(filepath.Join(root, s.Dir, "db"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(target); err != nil {
			t.Error(err)
		}
	}
	if n := namesIn(t, root); len(n) != 0 {
		t.Errorf("%q are left", n)
	}
}

// What bears the name of a scratch directory may be somebody else's, or lead elsewhere.
func TestOnlyWhatARehearsalLeftIsRemoved(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(root, "scratch", name) }
	must(os.MkdirAll(in(scratchPrefix+"LEFT/data/member/snap"), 0o700))
	must(os.MkdirAll(filepath.Join(root, "precious/below"), 0o700))
	must(os.WriteFile(filepath.Join(root, "precious/file"), []byte("kept"), 0o600))
	// Planted in it, and in its place.
	must(os.Symlink(filepath.Join(root, "precious"), in(scratchPrefix+"LEFT/data/member/wal")))
	must(os.Symlink(filepath.Join(root, "precious/file"), in(scratchPrefix+"LEFT/data/member/snap/db")))
	must(os.Link(filepath.Join(root, "precious/file"), in(scratchPrefix+"LEFT/hard")))
	must(os.Symlink(filepath.Join(root, "precious"), in(scratchPrefix+"LINK")))
	must(os.WriteFile(in(scratchPrefix+"FILE"), []byte("x"), 0o600))
	must(os.Mkdir(in(scratchPrefix+"OPEN"), 0o700))
	must(os.Chmod(in(scratchPrefix+"OPEN"), 0o755))
	must(os.Mkdir(in("other"), 0o700))
	stays := []string{scratchPrefix + "FILE", scratchPrefix + "LINK", scratchPrefix + "OPEN", "other"}
	if os.Geteuid() == 0 {
		must(os.Mkdir(in(scratchPrefix+"THEIRS"), 0o700))
		must(os.Chown(in(scratchPrefix+"THEIRS"), 65534, 65534))
		stays = append(stays, scratchPrefix+"THEIRS")
	}
	target := scratchTarget(root)
	s, err := OpenScratch(t.Context(), target, "/scratch")
	must(err)
	must(s.Close(target))
	for _, name := range stays {
		if _, err := os.Lstat(in(name)); err != nil {
			t.Error(err)
		}
	}
	if n := namesIn(t, in("")); len(n) != len(stays) {
		t.Errorf("there are %q, and not %q", n, stays)
	}
	if data, err := os.ReadFile(filepath.Join(root, "precious/file")); err != nil || string(data) != "kept" {
		t.Errorf("%q, %v", data, err)
	}
	if n := namesIn(t, filepath.Join(root, "precious")); len(n) != 2 {
		t.Errorf("of what links lead to, %q are left", n)
	}
}

func TestAScratchDirectoryThatCannotBeMadeIsAnError(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{"/nowhere", "/file"} {
		_, err := OpenScratch(t.Context(), scratchTarget(root), in)
		if err == nil || !strings.Contains(err.Error(), in) {
			t.Errorf("%s: %v", in, err)
		}
	}
}
