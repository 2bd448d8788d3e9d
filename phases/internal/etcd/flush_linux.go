package etcd

import (
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// flusher starts the writing back of a growing file every 8 MiB, so that the disk works while the
// data still comes and the fsync at the end finds little to do. What is on disk is dropped from the
// page cache: a backup is of no use there, and would push out what the node works with, etcd's own
// database among it. Pages that have just been dropped are also the cheapest to get again, by a lot
// on a virtual machine whose free memory the host takes back.
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
			_ = unix.SyncFileRange(fd, dropped, n,
				unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
			_ = unix.Fadvise(fd, dropped, n, unix.FADV_DONTNEED)
			dropped += n
		}
	}
}

// handOver tends the copying of a file, over and over until done is closed: it starts the
// writing back of the copy, and gives the copy the memory of what it was made of. Two of a kind
// in the page cache are one too many, and it is the copy that an etcd will be started on. All
// of it are hints like those of flusher. hashed is how much of the source somebody else has
// read who needs it as well.
func handOver(src *os.File, copy string, hashed *atomic.Int64, done <-chan struct{}) {
	const (
		often = 10 * time.Millisecond
		slack = 4 << 20 // what a copier may have read and not written
	)
	var f *os.File
	dropped := int64(0)
	for {
		if f == nil {
			if opened, err := os.Open(copy); err == nil {
				f = opened
				defer f.Close()
			}
		} else {
			_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
			if info, err := f.Stat(); err == nil {
				if n := min(info.Size(), hashed.Load()) - slack - dropped; n > 0 {
					_ = unix.Fadvise(int(src.Fd()), dropped, n, unix.FADV_DONTNEED)
					dropped += n
				}
			}
		}
		select {
		case <-done:
			return
		case <-time.After(often):
		}
	}
}
