package etcd

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// flusher starts the writing back of a growing file every 8 MiB, so that the disk works while the data still comes and the fsync at the end finds little to do. What
// is on disk is dropped from the page cache: a backup is of no use there, and would push out what the node works with, etcd's own database among it. Pages
// that have just been dropped are also the cheapest to get again, by a lot on a virtual machine whose free memory the host takes back.
func flusher(f *os.File) func(size int64) {
	const (
		step = 8 << 20
		lag  = 8 * step // what the disk may be behind before it is waited for
	)
	started, dropped := int64(0), int64(0)
	return func(size int64) {
		if size-started < step {
			return
		}
		// Hints only: the fsync at the end is what counts.
		fd := int(f.Fd())
		_ = unix.SyncFileRange(fd, started, size-started, unix.SYNC_FILE_RANGE_WRITE)
		started = size
		if n := started - lag - dropped; n > 0 {
			_ = unix.SyncFileRange(fd, dropped, n, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
			_ = unix.Fadvise(fd, dropped, n, unix.FADV_DONTNEED)
			dropped += n
		}
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
