package snapfile

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// feeder hands the database from front to back to whoever hashes it. The walk does that between two pages: the hash, which takes longest, has one core for
// itself, and all else the other. It is the only part that is mapped, a few blocks at a time, since a copy in one core's cache is slow to read from another:
// nothing that stands in it is followed, and the hash is ready for a file that becomes shorter under it.
type feeder struct {
	file        *file
	off, hashed int64       // all before them was handed over; hashed and given back
	back        chan []byte // blocks that were hashed, and at first as many empty ones as there may be at once
	blocks      chan []byte
	err         error // why it ended early; once blocks is closed
	wake        wake
}

const (
	blockSize = 8 << 20 // bytes; a multiple of any page size
	ahead     = 3       // blocks
)

func newFeeder(f *file, drop bool) *feeder {
	d := &feeder{file: f, back: make(chan []byte, ahead), blocks: make(chan []byte, ahead)}
	if drop {
		d.wake.file = f.File
	}
	for range ahead {
		d.back <- nil
	}
	return d
}

// between hands over as much as there is room for, and does not wait. The walk is at an offset.
func (d *feeder) between(walk int64) {
	d.wake.passed(min(walk, d.hashed))
	for d.err == nil && d.off < d.file.dbSize {
		select {
		case used := <-d.back:
			d.next(used)
		default:
			return
		}
	}
}

// rest hands over what is left, and ends the blocks.
func (d *feeder) rest(ctx context.Context) {
	defer close(d.blocks)
	for d.err == nil && d.off < d.file.dbSize {
		if d.err = ctx.Err(); d.err == nil {
			d.next(<-d.back)
		}
	}
}

// end takes all blocks back, once the hash is done.
func (d *feeder) end() {
	for range ahead {
		d.unmap(<-d.back)
	}
	d.wake.ended()
}

// next hands over a block in place of one that was used.
func (d *feeder) next(used []byte) {
	d.unmap(used)
	fd, size := int(d.file.Fd()), min(blockSize, d.file.dbSize-d.off)
	block, err := unix.Mmap(fd, d.off, int(size), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		d.err = readError(d.file, d.off, err)
		d.back <- nil
		return
	}
	d.off += size
	d.blocks <- block
}

func (d *feeder) unmap(used []byte) {
	d.hashed += int64(len(used))
	if used != nil {
		_ = unix.Munmap(used) // it fails for what is not mapped only
	}
}

func readError(f *file, off int64, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("cannot read %s at offset %d: %w", f.Name(), off, err)
}

// hash fills in the SHA-256 and compares the trailer.
func (f *file) hash(d *feeder, r *Report, raw bool, done func(int64)) error {
	h := sha256.New()
	var err error
	for b := range d.blocks {
		if err == nil {
			err = f.take(h, b)
		}
		done(int64(len(b)))
		d.back <- b
	}
	if err = cmp.Or(err, d.err); err != nil {
		return err
	}
	var trailer [trailerSize]byte
	sum := h.Sum(nil)
	if f.hasTrailer() {
		if m, err := f.ReadAt(trailer[:], f.dbSize); m < len(trailer) {
			return readError(f, f.dbSize, err)
		}
		if !raw && string(sum) != string(trailer[:]) {
			return bad(CheckTrailer, f.dbSize, "the SHA-256 of the data is %x, but the file ends with %x: the file has been changed or was cut", sum, trailer)
		}
		r.Trailer = hex.EncodeToString(trailer[:])
		h.Write(trailer[:])
	}
	r.SHA256 = hex.EncodeToString(h.Sum(nil))
	return nil
}

// take hashes a block. Where the file has become shorter, or the disk does not give it back, a fault tells.
func (f *file) take(h hash.Hash, block []byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("cannot read %s: it was cut while it was read, or the disk fails (%v)", f.Name(), fault)
		}
	}()
	h.Write(block)
	return nil
}
