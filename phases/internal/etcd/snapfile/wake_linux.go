package snapfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// wake drops a file from the page cache behind a reader that moves roughly from front to back. It
// is a hint: data read again comes from the disk.
type wake struct {
	file    *os.File // nil: nothing is dropped
	dropped int64    // all before this offset
}

const (
	dropStep = 8 << 20
	near     = 4 * dropStep // a reader further ahead than this has jumped
)

// passed says that the reader is at an offset.
func (w *wake) passed(off int64) {
	if ahead := off - w.dropped; w.file == nil || ahead < 2*dropStep || ahead > near {
		return
	}
	w.drop(w.dropped, dropStep)
	w.dropped += dropStep
}

// ended drops what is left.
func (w *wake) ended() {
	if w.file != nil {
		w.drop(0, 0)
	}
}

func (w *wake) drop(off, size int64) {
	_ = unix.Fadvise(int(w.file.Fd()), off, size, unix.FADV_DONTNEED)
}
