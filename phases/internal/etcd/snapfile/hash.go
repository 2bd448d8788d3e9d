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
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// feeder hands the database from front to back to whoever hashes it. It is the only part that is mapped, a few blocks at a time, since a copy in one core's cache is
// slow to read from another: nothing that stands in it is followed, and the hash is ready for a file that becomes shorter under it.
type feeder struct {
	file   *file
	blocks chan []byte
	used   chan []byte  // hashed; at first as many empty ones as there may be blocks at once
	hashed atomic.Int64 // all before this offset was given back
	err    error        // why it ended early; once blocks is closed
}

const (
	blockSize = 4 << 20 // bytes; a multiple of any page size
	ahead     = 3       // blocks
)

func newFeeder(f *file) *feeder {
	d := &feeder{file: f, blocks: make(chan []byte, ahead), used: make(chan []byte, ahead)}
	for range ahead {
		d.used <- nil
	}
	return d
}

// run maps one block after another, each once there is room for it. A block is in memory when it is handed over, so that the hash never waits for a disk that keeps up.
func (d *feeder) run(ctx context.Context) {
	defer close(d.blocks)
	for off := int64(0); off < d.file.dbSize; off += blockSize {
		d.takeBack()
		if d.err = ctx.Err(); d.err != nil {
			d.used <- nil
			return
		}
		block, err := unix.Mmap(int(d.file.Fd()), off, int(min(blockSize, d.file.dbSize-off)), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_POPULATE)
		if err != nil {
			d.err = readError(d.file, off, err)
			d.used <- nil
			return
		}
		d.blocks <- block
	}
}

// end takes back all blocks, once the hash is done.
func (d *feeder) end() {
	for range ahead {
		d.takeBack()
	}
}

func (d *feeder) takeBack() {
	block := <-d.used
	d.hashed.Add(int64(len(block)))
	if block != nil {
		_ = unix.Munmap(block) // it fails for what is not mapped only
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
		d.used <- b
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
