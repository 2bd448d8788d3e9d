package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Everything below uses only FS's methods. Whole files go through memory: manifests, certificates
// and journals, not databases.

// Mine returns the attributes of a new file that belongs to this process's user.
func Mine(mode fs.FileMode) Attr {
	return Attr{Mode: mode, UID: os.Geteuid(), GID: os.Getegid()}
}

// temp returns the name of a file while it is written. The dot keeps the kubelet from running it.
// The name is always the same, so the next attempt finds what a dead one left.
func temp(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".etcdpod")
}

// WriteAtomic writes data to path: at any instant, and after a power loss, path is the old file
// or the new one. A zero attr keeps the owner, mode and label of an existing file, and gives a
// new one 0600. An empty label in attr also keeps the file's label. A symbolic link stays, and
// its target is replaced.
func WriteAtomic(f FS, path string, data []byte, attr Attr) error {
	resolved, err := f.Resolve(path)
	if err != nil {
		return cannotWrite(path, err)
	}
	path = resolved
	attr, err = inherit(f, path, attr)
	if err != nil {
		return cannotWrite(path, err)
	}
	tmp := temp(path)
	if err := createSynced(f, tmp, data, attr); err != nil {
		return cannotWrite(path, err)
	}
	if err := f.Replace(tmp, path); err != nil {
		_ = f.Remove(tmp)
		return cannotWrite(path, err)
	}
	if err := f.Sync(filepath.Dir(path)); err != nil {
		return cannotWrite(path, err)
	}
	return nil
}

// DropTemp removes what an interrupted WriteAtomic of path may have left behind.
func DropTemp(f FS, path string) error {
	if err := f.Remove(temp(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove %s: %w", temp(path), err)
	}
	return nil
}

// inherit fills in attr from the file at path.
func inherit(f FS, path string, attr Attr) (Attr, error) {
	there, err := f.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && attr == Attr{}:
		return Mine(0o600), nil
	case errors.Is(err, fs.ErrNotExist):
		return attr, nil
	case err != nil:
		return attr, err
	case !there.Mode.IsRegular():
		return attr, errors.New("not a regular file")
	case attr == Attr{}:
		return there.Attr(), nil
	}
	if attr.Label == "" {
		attr.Label = there.Label
	}
	return attr, nil
}

// createSynced writes a temporary file to disk, and replaces one left by a dead attempt.
func createSynced(f FS, tmp string, data []byte, attr Attr) error {
	if err := f.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := f.Create(tmp, data, attr); err != nil {
		return err
	}
	if err := f.Sync(tmp); err != nil {
		_ = f.Remove(tmp)
		return err
	}
	return nil
}

// CopyFile copies a regular file with its owner, mode and label. The copy is complete or absent,
// and durable; fs.ErrExist if the name is taken.
func CopyFile(f FS, from, to string) error {
	st, err := f.Lstat(from)
	if err != nil {
		return cannotCopy(from, to, err)
	}
	if !st.Mode.IsRegular() {
		return cannotCopy(from, to, errors.New("not a regular file"))
	}
	data, err := f.ReadFile(from)
	if err != nil {
		return cannotCopy(from, to, err)
	}
	if err := writeNew(f, to, data, st.Attr()); err != nil {
		return cannotCopy(from, to, err)
	}
	return nil
}

// WriteNew is WriteAtomic for a new name. It never replaces: fs.ErrExist if the name is taken. An
// empty label is the directory's own.
func WriteNew(f FS, path string, data []byte, attr Attr) error {
	resolved, err := f.Resolve(path)
	if err == nil {
		err = writeNew(f, resolved, data, attr)
	}
	if err != nil {
		return cannotWrite(path, err)
	}
	return nil
}

func writeNew(f FS, path string, data []byte, attr Attr) error {
	tmp := temp(path)
	if err := createSynced(f, tmp, data, attr); err != nil {
		return err
	}
	if err := f.Rename(tmp, path); err != nil {
		_ = f.Remove(tmp)
		return err
	}
	return f.Sync(filepath.Dir(path))
}

// Move moves a name durably, and never over another one (fs.ErrExist). A regular file may cross
// file systems; a directory fails with syscall.EXDEV. After a crash, another call finishes the
// move: nothing at from and something at to means that it is done.
func Move(f FS, from, to string) error {
	if err := move(f, from, to); err != nil {
		return fmt.Errorf("cannot move %s to %s: %w", from, to, err)
	}
	return nil
}

func move(f FS, from, to string) error {
	source, err := f.Lstat(from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	gone := err
	target, err := f.Lstat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if gone != nil {
			return gone
		}
		return moveToFreeName(f, from, to, source)
	case err != nil:
		return err
	case gone != nil:
		return syncParents(f, from, to)
	}
	same, err := isCopy(f, from, to, source, target)
	if err != nil {
		return err
	}
	if !same {
		return &os.LinkError{Op: "move", Old: from, New: to, Err: fs.ErrExist}
	}
	if err := f.Sync(to); err != nil {
		return err
	}
	if err := f.Sync(filepath.Dir(to)); err != nil {
		return err
	}
	return dropSource(f, from)
}

func moveToFreeName(f FS, from, to string, source Stat) error {
	err := f.Rename(from, to)
	if err == nil {
		return syncParents(f, from, to)
	}
	if !errors.Is(err, syscall.EXDEV) || !source.Mode.IsRegular() {
		return err
	}
	if err := CopyFile(f, from, to); err != nil {
		return err
	}
	return dropSource(f, from)
}

// dropSource ends a move by copy, once the copy and its name are durable.
func dropSource(f FS, from string) error {
	if err := f.Remove(from); err != nil {
		return err
	}
	return f.Sync(filepath.Dir(from))
}

func syncParents(f FS, from, to string) error {
	if err := f.Sync(filepath.Dir(to)); err != nil {
		return err
	}
	return f.Sync(filepath.Dir(from))
}

// isCopy says whether an interrupted move made to from from, so that from may go. One name reached
// by two paths is not a copy.
func isCopy(f FS, from, to string, source, target Stat) (bool, error) {
	if !source.Mode.IsRegular() || !target.Mode.IsRegular() ||
		source.Size != target.Size || source.Attr() != target.Attr() {
		return false, nil
	}
	if filepath.Base(from) == filepath.Base(to) {
		a, err := stat(f, filepath.Dir(from))
		if err != nil {
			return false, err
		}
		b, err := stat(f, filepath.Dir(to))
		if err != nil || (a.Dev == b.Dev && a.Ino == b.Ino) {
			return false, err
		}
	}
	a, err := f.ReadFile(from)
	if err != nil {
		return false, err
	}
	b, err := f.ReadFile(to)
	return bytes.Equal(a, b), err
}

func cannotWrite(path string, err error) error {
	return fmt.Errorf("cannot write %s: %w", path, err)
}

func cannotCopy(from, to string, err error) error {
	return fmt.Errorf("cannot copy %s to %s: %w", from, to, err)
}
