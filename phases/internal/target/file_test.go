package target

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// directory is a target in a directory of this machine.
func directory(t *testing.T, dir string) Store {
	t.Helper()
	u, err := Parse("file://" + dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Dial(t.Context(), u, node.OS("/"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hiddenBelow lists the hidden files below a directory.
func hiddenBelow(t *testing.T, dir string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(name), ".") {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestADirectoryConforms(t *testing.T) {
	top := t.TempDir()
	conforms(t, place{large: 5*step + 7, many: 30,
		dial: func(t *testing.T, prefix string) Store {
			dir := filepath.Join(top, prefix)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			s := directory(t, dir)
			if err := s.Create(t.Context()); err != nil {
				t.Fatal(err)
			}
			return s
		},
		nowhere: func(t *testing.T) Store { return directory(t, t.TempDir()) },
		hidden:  func(t *testing.T) []string { return hiddenBelow(t, top) },
	})
}

func TestADirectoryOnWhichNothingIsMountedTakesNothing(t *testing.T) {
	dir := t.TempDir()
	s := directory(t, dir)
	if err := s.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, s, "c1/a", []byte("a"))
	if err := os.Rename(dir, dir+"-unmounted"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err := s.Put(t.Context(), "c1/b", strings.NewReader("b"))
	if !errors.Is(err, ErrNoPlace) || !strings.Contains(err.Error(), "nothing is mounted") {
		t.Errorf("put: %v", err)
	}
	if err := s.Delete(t.Context(), "c1/a"); !errors.Is(err, ErrNoPlace) {
		t.Errorf("delete: %v", err)
	}
	for _, err := range s.List(t.Context(), "") {
		if !errors.Is(err, ErrNoPlace) {
			t.Errorf("list: %v", err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("something was put where the mount would be: %v", left)
	}
}

func TestNoLinkOfADirectoryIsFollowed(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	s := directory(t, dir)
	if err := s.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "shadow"), []byte("root"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"c1": outside, "plain": filepath.Join(outside, "shadow")} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"c1/shadow", "c1/new", "plain"} {
		if err := s.Put(t.Context(), name, bytes.NewReader([]byte("x"))); err == nil {
			t.Errorf("%s was put through a link", name)
		}
		if _, err := s.Open(t.Context(), name); err == nil {
			t.Errorf("%s was read through a link", name)
		}
		if err := s.Delete(t.Context(), name); err == nil {
			t.Errorf("%s was deleted through a link", name)
		}
	}
	if got := names(t, s, ""); len(got) > 0 {
		t.Errorf("links are listed: %v", got)
	}
	if left, _ := os.ReadDir(outside); len(left) != 1 {
		t.Errorf("outside there is %v", left)
	}
	if err := os.Remove(filepath.Join(dir, "plain")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "plain"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), "plain"); err == nil {
		t.Error("a pipe was opened")
	}
}

func TestACheckTriesWhatBackupsNeed(t *testing.T) {
	dir := t.TempDir()
	u, err := Parse("file://" + dir)
	if err != nil {
		t.Fatal(err)
	}
	names := func(r Report) (all []string) {
		for _, s := range r.Steps {
			all = append(all, s.Name)
		}
		return all
	}
	r := Check(t.Context(), u, node.OS("/"), false)
	if r.OK || !errors.Is(r.Err(), ErrNoPlace) || !strings.Contains(r.Steps[0].Do, "--create file://"+dir) {
		t.Errorf("without the mark: %+v", r)
	}
	r = Check(t.Context(), u, node.OS("/"), true)
	want := "set-up list write read-back write-once list-again delete gone"
	if !r.OK || strings.Join(names(r), " ") != want || !r.Can.WriteOnce {
		t.Errorf("%+v", r)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 || left[0].Name() != Mark {
		t.Errorf("left is %v", left)
	}
	// A target that is wrong in one way is found out by one step.
	for _, c := range []struct {
		fault func(FS *faultyFS)
		step  string
	}{
		{func(f *faultyFS) { f.flips = true }, "read-back"},
		{func(f *faultyFS) { f.hides = true }, "list-again"},
		{func(f *faultyFS) { f.keeps = true }, "gone"},
		{func(f *faultyFS) { f.full = true }, "write"},
	} {
		f := &faultyFS{FS: node.OS("/")}
		c.fault(f)
		r := Check(t.Context(), u, f, false)
		var failed []string
		for _, s := range r.Steps {
			if !s.OK {
				failed = append(failed, s.Name)
			}
		}
		if r.OK || len(failed) != 1 || failed[0] != c.step {
			t.Errorf("%s: %+v", c.step, r)
		}
		for _, left := range hiddenBelow(t, dir) {
			t.Errorf("%s: %s is left", c.step, left)
		}
	}
}

// faultyFS is a disk that lies.
type faultyFS struct {
	node.FS
	flips, hides, keeps, full bool
}

func (f *faultyFS) Open(name string) (io.ReadCloser, error) {
	r, err := f.FS.Open(name)
	if err == nil && f.flips {
		data, _ := io.ReadAll(r)
		data[0] ^= 1
		r = io.NopCloser(bytes.NewReader(data))
	}
	return r, err
}

func (f *faultyFS) ReadDir(name string) ([]string, error) {
	if f.hides {
		return nil, nil
	}
	return f.FS.ReadDir(name)
}

func (f *faultyFS) Remove(name string) error {
	if f.keeps && !strings.Contains(name, partPrefix) {
		return nil
	}
	return f.FS.Remove(name)
}

func (f *faultyFS) Append(name string, data []byte) error {
	if f.full {
		return &os.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}
	}
	return f.FS.Append(name, data)
}
