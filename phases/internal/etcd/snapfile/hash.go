package snapfile

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// feeder passes the database from front to back to the hash, between two pages of the walk: the
// hash, which takes longest, has one core to itself, and everything else shares the other. Only
// this part is mapped, a few blocks at a time, because a copy in one core's cache is slow to read
// from another. Nothing in it is interpreted, and the hash copes with a file that shrinks under it.
type feeder struct {
	file        *file
	off, hashed int64 // everything before them has been passed on; hashed and returned
	end         int64 // nothing at or beyond this offset is passed on
	// Hashed blocks; at first as many empty ones as may be in use at once.
	used   chan []byte
	blocks chan []byte
	err    error // why it ended early; valid once blocks is closed
	wake   wake
}

const (
	blockSize = 8 << 20 // bytes; a multiple of any page size
	ahead     = 3       // blocks
)

func newFeeder(f *file, drop bool) *feeder {
	d := &feeder{file: f, end: f.dbSize, used: make(chan []byte, ahead), blocks: make(chan []byte, ahead)}
	if drop {
		d.wake.file = f.File
	}
	for range ahead {
		d.used <- nil
	}
	return d
}

// between passes on as much as there is room for, without waiting. The walk is at an offset.
func (d *feeder) between(walk int64) {
	d.wake.passed(min(walk, d.hashed))
	for d.err == nil && d.off < d.end {
		select {
		case used := <-d.used:
			d.next(used)
		default:
			return
		}
	}
}

// rest passes on what is left, and closes blocks.
func (d *feeder) rest(ctx context.Context) {
	defer close(d.blocks)
	for d.err == nil && d.off < d.end {
		if d.err = ctx.Err(); d.err == nil {
			d.next(<-d.used)
		}
	}
}

// over takes all blocks back once the hash is done.
func (d *feeder) over() {
	for range ahead {
		d.unmap(<-d.used)
	}
	d.wake.ended()
}

// next passes on a block in place of a used one.
func (d *feeder) next(used []byte) {
	d.unmap(used)
	block, err := d.file.mapped(d.off, min(d.off+blockSize, d.end))
	if err != nil {
		d.err = err
		d.used <- nil
		return
	}
	d.off += int64(len(block))
	d.blocks <- block
}

// mapped maps a part of the file, from the start of a block.
func (f *file) mapped(from, to int64) ([]byte, error) {
	block, err := unix.Mmap(int(f.Fd()), from, int(to-from), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return nil, readError(f, from, err)
	}
	return block, nil
}

func (d *feeder) unmap(used []byte) {
	d.hashed += int64(len(used))
	if used != nil {
		_ = unix.Munmap(used) // it fails only for what is not mapped
	}
}

func readError(f *file, off int64, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("cannot read %s at offset %d: %w", f.Name(), off, err)
}

// hash hashes everything passed on, and notes the steps.
func (f *file) hash(h *hasher, d *feeder, done func(int64)) error {
	var err error
	for b := range d.blocks {
		if err == nil {
			if err = f.take(h, b); err == nil {
				err = h.note(int64(len(b)), f.dbSize)
			}
		}
		done(int64(len(b)))
		d.used <- b
	}
	return cmp.Or(err, d.err)
}

// compare fills in the SHA-256 and compares the trailer.
func (f *file) compare(h hash.Hash, r *Report, raw bool) error {
	var trailer [trailerSize]byte
	sum := h.Sum(nil)
	if f.hasTrailer() {
		if m, err := f.ReadAt(trailer[:], f.dbSize); m < len(trailer) {
			return readError(f, f.dbSize, err)
		}
		if !raw && string(sum) != string(trailer[:]) {
			return bad(CheckTrailer, f.dbSize,
				"the SHA-256 of the data is %x, but the file ends with %x: the file has been changed or truncated",
				sum, trailer)
		}
		r.Trailer = hex.EncodeToString(trailer[:])
		h.Write(trailer[:])
	}
	r.SHA256 = hex.EncodeToString(h.Sum(nil))
	return nil
}

// take hashes a block. A fault shows that the file has shrunk, or that the disk cannot read it.
func (f *file) take(h hash.Hash, block []byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("cannot read %s: it was truncated while being read, or the disk is failing "+
				"(%v)", f.Name(), fault)
		}
	}()
	h.Write(block)
	return nil
}
