package etcd

import (
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// flusher starts writeback of a growing file every 8 MiB, so that the disk works while data still
// arrives and the final fsync finds little to do. It drops what is on disk from the page cache: a
// backup is useless there, and would displace what the node works with, including etcd's own
// database. Just-dropped pages are also the cheapest to get again, by far on a virtual machine
// whose host reclaims free memory.
func flusher(f *os.File) func(size int64) {
	const (
		step = 8 << 20
		lag  = 8 * step // how far the disk may lag before we wait for it
	)
	started, dropped := int64(0), int64(0)
	return func(size int64) {
		if size-started < step {
			return
		}
		// Only hints: the fsync at the end is what counts.
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

// handOver tends the copying of a file until done is closed: it starts writeback of the copy,
// and frees the source's page cache for it. The cache should not hold both, and etcd will
// start on the copy. These are only hints, as in flusher. hashed is how much of the source
// its other reader has read.
func handOver(src *os.File, copy string, hashed *atomic.Int64, done <-chan struct{}) {
	const (
		often = 10 * time.Millisecond
		slack = 4 << 20 // what a copier may have read and not yet written
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
