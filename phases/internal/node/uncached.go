package node

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Uncached has the kernel forget what it keeps in memory of an open file that was synced, so that
// it is read from the disk again. Where that is not possible, nothing happens.
func Uncached(r io.Reader) {
	if f, ok := r.(*os.File); ok {
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
}
