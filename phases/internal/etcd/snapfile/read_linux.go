package snapfile

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReadAt reads the page cache without telling the Go scheduler, which then waits only for the rest.
// Otherwise a call of thirty microseconds would give up the goroutine's processor and look for
// another, ten thousand times a file; and the scheduler's monitor would wake every twenty
// microseconds on the hash's core.
func (f *file) ReadAt(b []byte, off int64) (int, error) {
	if n := f.cached(b, off); n < len(b) {
		m, err := f.File.ReadAt(b[n:], off+int64(n))
		return n + m, err
	}
	return len(b), nil
}

// cached reads what is available at once: less than requested, or nothing, at the end of the file,
// if the disk is needed, or if the file system cannot tell.
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
