package snapfile

import (
	"encoding/binary"
	"math/bits"
)

// bitmap is a set of numbers below a bound.
type bitmap []uint64

func newBitmap(size uint64) bitmap { return make(bitmap, (size+63)/64) }

// set adds a number and says whether it is new.
func (b bitmap) set(i uint64) bool {
	old := b[i/64]
	b[i/64] |= 1 << (i % 64)
	return b[i/64] != old
}

func (b bitmap) has(i uint64) bool { return i/64 < uint64(len(b)) && b[i/64]&(1<<(i%64)) != 0 }

// firstMissing returns the smallest number that is not in the set.
func (b bitmap) firstMissing() uint64 {
	for i, word := range b {
		if word != ^uint64(0) {
			return uint64(i)*64 + uint64(bits.TrailingZeros64(^word))
		}
	}
	return uint64(len(b)) * 64
}

// freelist reads the list of free pages, once all others have been reached: each page must be one
// or the other. In a database without a list (etcd's own) there is nothing to compare: what was
// not reached is free.
func (w *walker) freelist() error {
	w.reached.set(0)
	w.reached.set(1)
	if w.meta.freelist == noFreelist {
		return nil
	}
	win := &window{}
	p := page{id: int64(w.meta.freelist), off: int64(w.meta.freelist) * w.meta.pageSize, size: w.meta.pageSize}
	if err := w.header(win, &p); err != nil {
		return err
	}
	if p.flags != freelistPage {
		return p.bad("it is of type %#x, not the freelist", p.flags)
	}
	off, count := p.off+pageHeader, uint64(p.count)
	if count == 0xffff { // the count did not fit into the header
		b, err := win.at(off, 8)
		if err != nil {
			return err
		}
		off, count = off+8, binary.LittleEndian.Uint64(b)
	}
	if count > uint64(p.off+p.size-off)/8 {
		return p.bad("%d free pages do not fit into it", count)
	}
	if err := w.freePages(win, p, off, count); err != nil {
		return err
	}
	if id := w.reached.firstMissing(); id < w.meta.pages {
		return bad(CheckStructure, int64(id)*w.meta.pageSize,
			"%sno bucket reaches it, and it is not free", place(id, int64(id)*w.meta.pageSize))
	}
	return nil
}

func (w *walker) freePages(win *window, p page, off int64, count uint64) error {
	last := uint64(1)
	for i := range count {
		b, err := win.at(off+8*int64(i), 8)
		if err != nil {
			return err
		}
		id := binary.LittleEndian.Uint64(b)
		switch {
		case id >= w.meta.pages || id < 2:
			return p.bad("free page %d of %d", id, w.meta.pages)
		case id <= last:
			return p.bad("free page %d is listed after %d", id, last)
		case !w.reached.set(id):
			return p.bad("page %d is in use and free", id)
		}
		last = id
	}
	return nil
}
