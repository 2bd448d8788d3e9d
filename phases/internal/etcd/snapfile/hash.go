package snapfile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// feeder reads the database from front to back for whoever hashes it. The walk does that between two pages: the hash, which takes longest, has one core for
// itself, and all else the other.
type feeder struct {
	file   *file
	off    int64
	free   chan []byte
	blocks chan []byte // as large as all buffers
	err    error       // why it ended early; once blocks is closed
	wake   wake
}

const (
	blockSize = 128 << 10 // bytes; still in the processor's cache when they are hashed
	ahead     = 8         // blocks
)

func newFeeder(f *file, drop bool) *feeder {
	d := &feeder{file: f, free: make(chan []byte, ahead), blocks: make(chan []byte, ahead)}
	if drop {
		d.wake.file = f.File
	}
	for range ahead {
		d.free <- make([]byte, min(f.dbSize, blockSize))
	}
	return d
}

// between reads as much as there is room for, and does not wait. The walk is at an offset.
func (d *feeder) between(walk int64) {
	d.wake.passed(min(walk, d.off))
	for d.err == nil && d.off < d.file.dbSize {
		select {
		case buf := <-d.free:
			d.next(buf)
		default:
			return
		}
	}
}

// rest reads what is left, and ends the blocks.
func (d *feeder) rest(ctx context.Context) {
	defer close(d.blocks)
	defer d.wake.ended()
	for d.err == nil && d.off < d.file.dbSize {
		if d.err = ctx.Err(); d.err == nil {
			d.next(<-d.free)
		}
	}
}

func (d *feeder) next(buf []byte) {
	buf = buf[:min(int64(len(buf)), d.file.dbSize-d.off)]
	if m, err := d.file.ReadAt(buf, d.off); m < len(buf) {
		d.err = readError(d.file, d.off, err)
		return
	}
	d.off += int64(len(buf))
	d.blocks <- buf
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
	for b := range d.blocks {
		h.Write(b)
		done(int64(len(b)))
		d.free <- b[:cap(b)]
	}
	if d.err != nil {
		return d.err
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
