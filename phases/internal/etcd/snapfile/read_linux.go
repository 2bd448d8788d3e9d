package snapfile

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReadAt takes what is in the page cache without telling the Go scheduler, and has it wait for the
// rest only. For a call of thirty microseconds it would hand the goroutine's processor on and find
// another, ten thousand times a file; and its monitor, which sees to that, would wake every twenty
// microseconds on the core of the hash.
func (f *file) ReadAt(b []byte, off int64) (int, error) {
	if n := f.cached(b, off); n < len(b) {
		m, err := f.File.ReadAt(b[n:], off+int64(n))
		return n + m, err
	}
	return len(b), nil
}

// cached reads what needs no waiting: less than was asked for, or nothing, where the file ends, the
// disk is needed, or the file system cannot tell.
func (f *file) cached(b []byte, off int64) int {
	if len(b) == 0 {
		return 0
	}
	to := unix.Iovec{Base: &b[0]}
	to.SetLen(len(b))
	n, _, errno := unix.RawSyscall6(unix.SYS_PREADV2, f.Fd(),
		uintptr(unsafe.Pointer(&to)), 1, uintptr(off), 0, unix.RWF_NOWAIT)
	if errno != 0 {
		return 0
	}
	return int(n)
}
