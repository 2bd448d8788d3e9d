package node

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Scratch is a file without a name, in a directory of this machine: nobody else can open it, and it
// is gone with the process, whatever ends that. Its path leads to the open file.
func Scratch(dir string) (f *os.File, path string, err error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC|unix.O_EXCL, 0o600)
	switch {
	case err == nil:
		f = os.NewFile(uintptr(fd), dir)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOENT):
		f, err = unnamed(dir)
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot make a file in %s: %w", dir, err)
	}
	return f, fmt.Sprintf("%s%d", heldPrefix, f.Fd()), nil
}

// unnamed is for file systems without O_TMPFILE: the name is there for a moment, in a directory of
// its own, and the file is empty for as long.
func unnamed(dir string) (*os.File, error) {
	own, err := os.MkdirTemp(dir, ".etcdpod-") // 0700
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(own+"/scratch", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, errors.Join(err, os.Remove(own))
	}
	if err := errors.Join(os.Remove(f.Name()), os.Remove(own)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
