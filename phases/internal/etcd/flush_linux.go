package etcd

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// flusher starts the writing back of a growing file every 8 MiB, so that the disk works while the data still comes and the fsync at the end finds little to do.
func flusher(f *os.File) func(size int64) {
	const step = 8 << 20
	started := int64(0)
	return func(size int64) {
		if size-started < step {
			return
		}
		// A hint only: the fsync at the end is what counts.
		_ = unix.SyncFileRange(int(f.Fd()), started, size-started, unix.SYNC_FILE_RANGE_WRITE)
		started = size
	}
}

// writeBack starts, over and over until done is closed, the writing back of a file that somebody else is making. It is a hint like that of flusher.
func writeBack(path string, done <-chan struct{}) {
	const often = 20 * time.Millisecond
	var f *os.File
	for {
		if f == nil {
			if opened, err := os.Open(path); err == nil {
				f = opened
				defer f.Close()
			}
		} else {
			_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
		}
		select {
		case <-done:
			return
		case <-time.After(often):
		}
	}
}
