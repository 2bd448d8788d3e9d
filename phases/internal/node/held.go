package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Held is a directory that is kept open: files in it are reached through the open directory,
// whatever its name, or a name above it, leads to by then.
type Held struct {
	Dir   string // names the open directory in place of its host path
	Close func() error
}

// heldPrefix begins the names of open directories. Such a path is the same below every root.
const heldPrefix = "/proc/self/fd/"

func isHeld(path string) bool { return strings.HasPrefix(path, heldPrefix) }

func (d disk) Hold(dir string) (*Held, error) {
	resolved, err := d.Resolve(dir)
	if err != nil {
		return nil, err
	}
	real := filepath.Join(d.root, resolved)
	if isHeld(dir) { // of an open directory: its last element is no link, either
		real = dir
	}
	f, err := os.OpenFile(real, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return &Held{Dir: fmt.Sprintf("%s%d", heldPrefix, f.Fd()), Close: f.Close}, nil
}

func (d disk) ReadPlain(path string, most int64) ([]byte, Stat, error) {
	real, err := d.name(path)
	if err != nil {
		return nil, Stat{}, err
	}
	f, err := os.OpenFile(real, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, Stat{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, Stat{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		why := errors.New("not a regular file")
		if info.Mode().IsRegular() {
			why = fmt.Errorf("it has %d bytes, but at most %d are read", info.Size(), most)
		}
		return nil, Stat{}, pathError("read", f.Name(), why)
	}
	sys := info.Sys().(*syscall.Stat_t)
	st := Stat{Mode: info.Mode(), Size: info.Size(), ModTime: info.ModTime(), UID: int(sys.Uid), GID: int(sys.Gid),
		Dev: uint64(sys.Dev), Ino: sys.Ino}
	data, err := ReadWhole(f)
	return data, st, pathError("read", f.Name(), err)
}

// Exposed says why others could replace what is in a directory, as sshd judges the directories of
// its keys: it, and each one above it, must belong to root or to this user, and nobody else may
// write to it. Where the sticky bit is set others may make files, but not touch those of somebody
// else. Empty: nobody else can.
func Exposed(f Reader, dir string) (why string, err error) {
	resolved, err := f.Resolve(dir)
	for at := resolved; err == nil; at = filepath.Dir(at) {
		var st Stat
		if st, err = f.Lstat(at); err != nil {
			break
		}
		if why := st.exposed(); why != "" {
			return at + " " + why, nil
		}
		if at == "/" {
			return "", nil
		}
	}
	return "", fmt.Errorf("cannot determine who can write to %s: %w", dir, err)
}

// Foreign says whether others can have written a file: it belongs to somebody else, or they may
// write to it.
func (s Stat) Foreign() bool {
	s.Mode &^= fs.ModeSticky
	return s.exposed() != ""
}

// exposed leaves out the group of root, and this user's own: nobody else is in them.
func (s Stat) exposed() string {
	group := s.Mode&0o020 != 0 && s.GID != 0 && (s.GID != os.Getegid() || s.UID != os.Geteuid())
	switch {
	case s.UID != 0 && s.UID != os.Geteuid():
		return fmt.Sprintf("belongs to user %d", s.UID)
	case s.Mode&fs.ModeSticky != 0:
		return ""
	case s.Mode&0o002 != 0:
		return "is writable by everyone"
	case group:
		return fmt.Sprintf("is writable by group %d", s.GID)
	}
	return ""
}

// Crowded says whether others may make files in a directory, though perhaps not touch those of
// somebody else: no name there may be one that they can know beforehand.
func Crowded(f Reader, dir string) (bool, error) {
	st, err := stat(f, dir)
	return err == nil && st.Foreign(), err
}

// Inside says whether a directory is outer or lies below it, under whatever name: links are
// followed, and a directory that is mounted a second time elsewhere is the same one. Either may not
// be there yet.
func Inside(f Reader, dir, outer string) bool {
	dir, outer = Resolved(f, dir), Resolved(f, outer)
	there, err := f.Lstat(outer)
	for at := dir; ; at = filepath.Dir(at) {
		if at == outer {
			return true
		}
		if st, failed := f.Lstat(at); err == nil && failed == nil && st.Dev == there.Dev && st.Ino == there.Ino {
			return true
		}
		if at == "/" {
			return false
		}
	}
}

// Resolved is the host path with all links followed, as far as it is there: links that lead into
// nothing, too.
func Resolved(f Reader, path string) string {
	path = filepath.Clean("/" + path)
	for at, rest := path, ""; ; at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest) {
		resolved, err := f.Resolve(at)
		if err == nil {
			return filepath.Join(resolved, rest)
		}
		if missing := (*fs.PathError)(nil); errors.Is(err, fs.ErrNotExist) && errors.As(err, &missing) {
			return filepath.Join(missing.Path, rest)
		}
		if at == "/" {
			return path
		}
	}
}
