package snapfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

const (
	// SHA-256.
	trailerSize = 32
	// etcd tells a trailer by size % 512 == 32 (etcdutl snapshot restore, etcdctl snapshot save).
	sector = 512
	// 256 GiB: thirty times the largest database that etcd supports. This limits the
	// page bitmap to 32 MiB.
	maxSize = 1 << 38
)

// file is an open snapshot: the database, and the trailer if there is one.
type file struct {
	*os.File
	size   int64 // of the whole file
	dbSize int64 // without the trailer
}

// open opens a regular file, or a symbolic link to one, and never blocks on a pipe or device.
func open(path string) (*file, error) {
	f, info, err := OpenPlain(path)
	if verdict := (*Bad)(nil); errors.As(err, &verdict) {
		return nil, err
	}
	if err != nil {
		return nil, openError(path, err)
	}
	db := info.Size()
	if db%sector == trailerSize {
		db -= trailerSize
	}
	return &file{File: f, size: info.Size(), dbSize: db}, nil
}

// OpenPlain opens a file of somebody's data. What is no file, such as a pipe, is bad: a read of it
// might never end. Other errors are those of package os.
func OpenPlain(path string) (*os.File, fs.FileInfo, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, nil, err
	} else if !info.Mode().IsRegular() {
		return nil, nil, irregular(path, info.Mode())
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = irregular(path, info.Mode())
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// InUse says whether a process holds bbolt's lock on a file, and may write to it.
func InUse(path string) bool {
	f, _, err := OpenPlain(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// irregular is the verdict on what is no regular file.
func irregular(path string, mode fs.FileMode) *Bad {
	kind := "a device"
	switch {
	case mode.IsDir():
		kind = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		kind = "a named pipe"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	}
	return bad(CheckFile, 0, "%s is %s, not a regular file", path, kind)
}

// openError tells a path at which there can be no snapshot from one at which nobody may look.
func openError(path string, err error) error {
	for _, not := range []error{
		fs.ErrNotExist, syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG,
	} {
		var why *fs.PathError
		switch {
		case !errors.Is(err, not) || !errors.As(err, &why):
		case errors.Is(err, fs.ErrNotExist):
			return bad(CheckFile, 0, "%s: there is no such file", path)
		default:
			return bad(CheckFile, 0, "%s: %v", path, why.Err)
		}
	}
	return fmt.Errorf("cannot open %s: %w", path, err)
}

// hasTrailer judges by the length alone.
func (f *file) hasTrailer() bool { return f.size != f.dbSize }

// isBare recognizes whole pages of a database, and nothing behind them.
func (f *file) isBare() bool {
	if f.hasTrailer() || f.size < 2*minPageSize {
		return false
	}
	m, err := metas(f, true)
	return err == nil && f.size%m.pageSize == 0
}

// checkLength checks what the size alone tells.
func (f *file) checkLength(raw bool) error {
	switch {
	case f.size == 0:
		return bad(CheckLength, 0, "the file is empty")
	case f.size > maxSize:
		return bad(CheckLength, 0, "the file has %d bytes, more than any etcd database", f.size)
	case !raw && f.isBare():
		return &Bad{Check: CheckLength, Offset: f.size, Bare: true,
			Reason: "it has no SHA-256 at its end: it is a plain copy of a member's db, or was truncated"}
	case !raw && !f.hasTrailer():
		return bad(CheckLength, f.size,
			"%d bytes are not whole pages plus a SHA-256 of 32 bytes: the file was truncated, or is not a "+
				"snapshot", f.size)
	case f.dbSize < 2*minPageSize:
		return bad(CheckLength, f.size, "%d bytes hold no two meta pages", f.size)
	}
	return nil
}

const (
	minAhead = 16 << 10
	maxAhead = 256 << 10
)

// window is a part of the file in memory. It reads ahead while it moves forwards in small steps.
type window struct {
	src   io.ReaderAt
	limit int64 // nothing at or beyond this offset is read
	max   int   // bytes; at most this many per request
	ahead int
	start int64
	buf   []byte
}

// at returns n bytes at an offset. They are valid until the next call.
func (w *window) at(off int64, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	if i := off - w.start; i >= 0 && i+int64(n) <= int64(len(w.buf)) {
		return w.buf[i : i+int64(n)], nil
	}
	return w.fill(off, n)
}

func (w *window) fill(off int64, n int) ([]byte, error) {
	if n > w.max || off < 0 || off+int64(n) > w.limit {
		// Callers have checked.
		return nil, fmt.Errorf("cannot read %d bytes at offset %d: beyond the end of the database", n, off)
	}
	end := w.start + int64(len(w.buf))
	if off >= w.start && off <= end+minAhead {
		w.ahead = min(2*w.ahead, w.max)
	} else {
		w.ahead = min(minAhead, w.max)
	}
	size := int(min(int64(max(n, w.ahead)), w.limit-off))
	if cap(w.buf) < size {
		w.buf = make([]byte, size)
	}
	w.buf = w.buf[:size]
	w.start = off
	if m, err := w.src.ReadAt(w.buf, off); m < size {
		w.buf = w.buf[:0]
		return nil, fmt.Errorf("cannot read %d bytes at offset %d: %w", size, off, err)
	}
	return w.buf[:n], nil
}

// each passes n bytes at an offset, however many, to f in pieces.
func (w *window) each(off, n int64, f func([]byte)) error {
	for n > 0 {
		b, err := w.at(off, int(min(n, int64(w.max))))
		if err != nil {
			return err
		}
		f(b)
		off += int64(len(b))
		n -= int64(len(b))
	}
	return nil
}
