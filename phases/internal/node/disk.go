package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"syscall"

	"golang.org/x/sys/unix"
)

// OS returns this machine's file system, with host paths below root ("/" for the machine itself).
func OS(root string) FS {
	root = filepath.Clean(root)
	if abs, err := filepath.Abs(root); err == nil {
		root = abs
	}
	return disk{root: root}
}

type disk struct{ root string }

// maxLinks is the kernel's own limit of symbolic links in one look-up.
const maxLinks = 40

func (d disk) Real(path string) string {
	real, err := d.name(path)
	if err != nil {
		return filepath.Join(d.root, path)
	}
	return real
}

func (d disk) Resolve(path string) (string, error) {
	if isHeld(path) {
		return path, nil
	}
	todo := filepath.Clean("/" + path)
	done, links := "/", 0
	for todo != "" && todo != "/" {
		element, rest := firstElement(todo)
		next := filepath.Join(done, element)
		target, err := os.Readlink(filepath.Join(d.root, next))
		switch {
		case err == nil:
			if links++; links > maxLinks {
				return "", &fs.PathError{Op: "resolve", Path: path, Err: syscall.ELOOP}
			}
			if filepath.IsAbs(target) {
				done = "/"
			}
			// Not cleaned as a whole: "link/.." is the parent of the link's target.
			todo = target + "/" + rest
		case errors.Is(err, syscall.EINVAL): // not a link
			done, todo = next, rest
		case errors.Is(err, fs.ErrNotExist) && filepath.Clean("/"+rest) == "/":
			return next, nil
		case errors.Is(err, fs.ErrNotExist): // as for Resolved: where it would have to be
			return "", &fs.PathError{Op: "resolve", Path: filepath.Join(next, rest), Err: syscall.ENOENT}
		default:
			return "", &fs.PathError{Op: "resolve", Path: path, Err: errno(err)}
		}
	}
	return done, nil
}

// firstElement splits a path into its first element and what follows.
func firstElement(path string) (first, rest string) {
	for len(path) > 0 && path[0] == '/' {
		path = path[1:]
	}
	for i := range len(path) {
		if path[i] == '/' {
			return path[:i], path[i+1:]
		}
	}
	return path, ""
}

// name returns the real path of a name, without following its last element.
func (d disk) name(path string) (string, error) {
	path = filepath.Clean("/" + path)
	if isHeld(path) {
		return path, nil
	}
	if d.root == "/" || path == "/" {
		return filepath.Join(d.root, path), nil
	}
	parent, err := d.Resolve(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return filepath.Join(d.root, parent, filepath.Base(path)), nil
}

// target returns the real path that a name leads to, links followed.
func (d disk) target(path string) (string, error) {
	if d.root == "/" || isHeld(path) {
		return filepath.Clean("/" + path), nil
	}
	resolved, err := d.Resolve(path)
	if err != nil {
		return "", err
	}
	return filepath.Join(d.root, resolved), nil
}

// open follows links; it does not wait for the other end of a FIFO.
func (d disk) open(path string, flag int) (*os.File, error) {
	real, err := d.target(path)
	if err != nil {
		return nil, err
	}
	return os.OpenFile(real, flag|unix.O_NONBLOCK, 0o600)
}

func (d disk) Open(path string) (io.ReadCloser, error) { return d.open(path, os.O_RDONLY) }

func (d disk) ReadFile(path string) ([]byte, error) {
	f, err := d.open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		why := errors.New("not a regular file")
		if info.IsDir() {
			why = syscall.EISDIR
		}
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: why}
	}
	data, err := ReadWhole(f)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: err}
	}
	return data, nil
}

// mostRead is far more than any manifest, certificate, configuration or journal needs. Anything
// larger is something else, and would eat the node's memory.
const mostRead = 64 << 20

// ReadWhole reads a whole file into memory.
func ReadWhole(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, mostRead+1))
	if err == nil && len(data) > mostRead {
		return nil, fmt.Errorf("it is larger than %d MiB", mostRead>>20)
	}
	return data, err
}

func (d disk) ReadDir(path string) ([]string, error) {
	real, err := d.target(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(real, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	sort.Strings(names)
	return names, err
}

func (d disk) Create(path string, data []byte, attr Attr) error {
	real, err := d.name(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(real, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = setAttrOf(f, attr); err == nil {
		_, err = f.Write(data)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(real) // ours, because of O_EXCL; half a file is useless
	}
	return err
}

func (d disk) Append(path string, data []byte) error {
	f, err := d.open(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func (d disk) Allocate(path string, bytes int64) error {
	f, err := d.open(path, os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return pathError("allocate", f.Name(), err)
	}
	// Check first: a failing fallocate has by then taken all remaining space, from etcd too. Where
	// the file system cannot reserve, checking is all that can be done.
	const block = 512 // the unit of st_blocks
	free, err := d.Free(path)
	if err == nil && bytes > st.Blocks*block && uint64(bytes-st.Blocks*block) > free {
		err = pathError("allocate", f.Name(), syscall.ENOSPC)
	}
	if err != nil {
		return err
	}
	err = retry(func() error { return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, bytes) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	if err != nil {
		_ = unix.Ftruncate(int(f.Fd()), st.Size) // gives back what the failed call took
	}
	return pathError("allocate", f.Name(), err)
}

func (d disk) Truncate(path string, size int64) error {
	real, err := d.target(path)
	if err != nil {
		return err
	}
	return os.Truncate(real, size)
}

func (d disk) Mkdir(path string, attr Attr) error {
	real, err := d.name(path)
	if err != nil {
		return err
	}
	if err := os.Mkdir(real, 0o700); err != nil {
		return err
	}
	if err := setAttr(real, attr); err != nil {
		_ = os.Remove(real)
		return err
	}
	return nil
}

func (d disk) Remove(path string) error {
	real, err := d.name(path)
	if err != nil {
		return err
	}
	return os.Remove(real)
}

func (d disk) Rename(from, to string) error {
	return d.rename(from, to, unix.RENAME_NOREPLACE, lookAndRename)
}

// lookAndRename is the fallback where the file system (NFS, some FUSE) has no
// RENAME_NOREPLACE. Another process can take the name in between, but one rename is all or
// nothing, unlike link and unlink.
func lookAndRename(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return syscall.EEXIST
	}
	return retry(func() error { return unix.Rename(from, to) })
}

func (d disk) Replace(from, to string) error {
	return d.rename(from, to, 0, nil)
}

func (d disk) Exchange(a, b string) error {
	return d.rename(a, b, unix.RENAME_EXCHANGE, func(a, b string) error { return ErrExchangeUnsupported })
}

// rename calls renameat2, or otherwise if the kernel or the file system does not know the flag.
func (d disk) rename(from, to string, flag uint, otherwise func(from, to string) error) error {
	realFrom, err := d.name(from)
	if err != nil {
		return err
	}
	realTo, err := d.name(to)
	if err != nil {
		return err
	}
	op := "rename"
	if flag == unix.RENAME_EXCHANGE {
		op = "exchange"
	}
	err = retry(func() error {
		if flag == 0 {
			return unix.Rename(realFrom, realTo)
		}
		return unix.Renameat2(unix.AT_FDCWD, realFrom, unix.AT_FDCWD, realTo, flag)
	})
	if flag != 0 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)) {
		err = otherwise(realFrom, realTo)
	}
	if err != nil {
		return &os.LinkError{Op: op, Old: realFrom, New: realTo, Err: err}
	}
	return nil
}

func (d disk) Sync(path string) error {
	f, err := d.open(path, os.O_RDONLY)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d disk) Lock(path string) (func() error, error) {
	f, err := d.open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	err = flock(f)
	// NFS turns flock into a lock of the whole file, which needs a writable descriptor.
	if errors.Is(err, unix.EBADF) {
		_ = f.Close()
		if f, err = d.open(path, os.O_RDWR); err != nil {
			return nil, err
		}
		err = flock(f)
	}
	if err == nil {
		return f.Close, nil
	}
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	return nil, pathError("lock", f.Name(), err)
}

func flock(f *os.File) error {
	return retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// errno strips the path from an error, for wrapping it with another one.
func errno(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
