package node

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
)

// MkdirAll makes a directory and its missing parents, each with attr, and makes
// their names durable.
func MkdirAll(f FS, path string, attr Attr) error {
	parent := filepath.Dir(path)
	st, err := stat(f, path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && parent != path:
		if err := MkdirAll(f, parent, attr); err != nil {
			return err
		}
		err = f.Mkdir(path, attr)
	case err == nil && !st.Mode.IsDir():
		err = syscall.ENOTDIR
	}
	if err == nil {
		// Also for a directory that exists: whoever made it may have died before this sync.
		err = f.Sync(parent)
	}
	if err != nil {
		return fmt.Errorf("cannot make directory %s: %w", path, err)
	}
	return nil
}

// RemoveTree deletes a file or a directory tree, durably. Links are deleted, not followed. If
// something is mounted in the tree, it fails with syscall.EBUSY before deleting anything. A
// missing tree is no error.
func RemoveTree(f FS, path string) error {
	st, err := f.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		// Whoever removed it may have died before this sync.
		return ignoreAbsent(f.Sync(filepath.Dir(path)))
	}
	var parent Stat
	if err == nil {
		parent, err = stat(f, filepath.Dir(path))
	}
	if err == nil && parent.Mount != st.Mount {
		err = fmt.Errorf("%s is a mount point: %w", path, syscall.EBUSY)
	}
	if err == nil {
		err = walk(f, path, func(name string, child Stat) error {
			if child.Mount != st.Mount {
				return fmt.Errorf("%s is a mount point: %w", name, syscall.EBUSY)
			}
			return nil
		})
	}
	if err == nil {
		err = walk(f, path, func(name string, _ Stat) error { return f.Remove(name) })
	}
	if err == nil {
		err = f.Sync(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", path, err)
	}
	return nil
}

// SyncTree makes every file and directory from path downwards durable, contents before names. The
// name of path itself is in its parent: for a new path, sync that, too.
func SyncTree(f FS, path string) error {
	err := walk(f, path, func(name string, st Stat) error {
		if st.Mode.IsRegular() || st.Mode.IsDir() {
			return f.Sync(name)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot sync %s: %w", path, err)
	}
	return nil
}

// walk visits everything below path, each directory after its contents, and path last.
func walk(f FS, path string, visit func(string, Stat) error) error {
	st, err := f.Lstat(path)
	if err != nil {
		return err
	}
	if st.Mode.IsDir() {
		names, err := f.ReadDir(path)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := walk(f, filepath.Join(path, name), visit); err != nil {
				return err
			}
		}
	}
	return visit(path, st)
}

// MountIn returns a name, dir itself or one below it, at which something is mounted, be it a single
// file; empty when there is none. A rename or an exchange of dir would carry it along.
func MountIn(f Reader, dir string) (mount string, err error) {
	parent, err := stat(f, filepath.Dir(dir))
	if err == nil {
		mount, err = mountIn(f, dir, parent)
	}
	return mount, ignoreAbsent(err)
}

// mountIn does not look into what is mounted.
func mountIn(f Reader, name string, parent Stat) (string, error) {
	st, err := f.Lstat(name)
	switch {
	case err != nil:
		return "", ignoreAbsent(err) // etcd may delete a file meanwhile
	case st.Mount != parent.Mount || st.Dev != parent.Dev:
		return name, nil
	case !st.Mode.IsDir():
		return "", nil
	}
	names, err := f.ReadDir(name)
	for i := 0; err == nil && i < len(names); i++ {
		var at string
		if at, err = mountIn(f, filepath.Join(name, names[i]), st); at != "" {
			return at, nil
		}
	}
	return "", ignoreAbsent(err)
}

// IsMountPoint says whether something is mounted at dir, including a bind mount of
// the same file system.
func IsMountPoint(f Reader, dir string) (bool, error) {
	dir, err := f.Resolve(dir)
	if err != nil {
		return false, err
	}
	if dir == "/" {
		return true, nil
	}
	same, err := SameMount(f, dir, filepath.Dir(dir))
	return !same, err
}

// SameMount says whether two names are on one mount, so that a rename or exchange
// between them can work.
func SameMount(f Reader, a, b string) (bool, error) {
	first, err := stat(f, a)
	if err != nil {
		return false, err
	}
	second, err := stat(f, b)
	return err == nil && first.Mount == second.Mount && first.Dev == second.Dev, err
}

// IsThere says whether a name leads to something. A dangling link does not.
func IsThere(f Reader, name string) (bool, error) {
	_, err := stat(f, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// IsRegular says whether a name is a regular file or leads to one. A dangling link is neither.
func IsRegular(f Reader, name string) (bool, error) {
	st, err := stat(f, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && st.Mode.IsRegular(), err
}

// IsDir says whether a name is a directory, links followed.
func IsDir(f Reader, name string) bool {
	st, err := stat(f, name)
	return err == nil && st.Mode.IsDir()
}

// IsWrongKind reports a directory in place of a file, or a file in place of a directory.
func IsWrongKind(err error) bool {
	return errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTDIR)
}

// stat follows links.
func stat(f Reader, path string) (Stat, error) {
	resolved, err := f.Resolve(path)
	if err != nil {
		return Stat{}, err
	}
	return f.Lstat(resolved)
}

// NobodysNames are names in a directory that its file system or server puts there: they hold
// nothing of the directory's user, and many cannot be moved away.
func NobodysNames() []string { return []string{"lost+found", ".snapshot", ".zfs"} }

// OnlyDirs returns the directories of a tree, itself first, if there is nothing else in it.
func OnlyDirs(f Reader, dir string) (dirs []string, only bool, err error) {
	st, err := f.Lstat(dir)
	if err != nil || !st.Mode.IsDir() {
		return nil, false, err
	}
	names, err := f.ReadDir(dir)
	if err != nil {
		return nil, false, err
	}
	dirs = []string{dir}
	for _, name := range names {
		if slices.Contains(NobodysNames(), name) {
			continue
		}
		below, only, err := OnlyDirs(f, filepath.Join(dir, name))
		if err != nil || !only {
			return nil, false, err
		}
		dirs = append(dirs, below...)
	}
	return dirs, true, nil
}
