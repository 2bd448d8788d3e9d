package snapfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"hash"

	"golang.org/x/sys/unix"
)

// Steps are the states of a database's SHA-256 after each 64 MiB, if more data follows,
// as Go marshals them.
//
// A SHA-256 is computed from front to back, on one core. With the steps, a second core can start in
// the middle: if the part before a step leads to it, and the part after leads from it to the next,
// then together they are the hash of this file, wherever the steps came from. So they need no
// trust: a wrong one is found, and the rest is hashed again from the front.
type Steps [][]byte

const stepSize = 64 << 20 // bytes; a multiple of blockSize

// hasher is a SHA-256 that notes its steps.
type hasher struct {
	hash.Hash
	off   int64 // everything before it is hashed
	steps Steps
}

func newHasher() *hasher { return &hasher{Hash: sha256.New()} }

// note records that n more bytes were written, of size in all.
func (h *hasher) note(n, size int64) error {
	h.off += n
	if h.off%stepSize != 0 || h.off == size {
		return nil
	}
	state, err := stateOf(h.Hash)
	h.steps = append(h.steps, state)
	return err
}

func stateOf(h hash.Hash) ([]byte, error) { return h.(encoding.BinaryMarshaler).MarshalBinary() }

// isAt says whether a hash has reached a step.
func isAt(h hash.Hash, step []byte) bool {
	state, err := stateOf(h)
	return err == nil && bytes.Equal(state, step)
}

// fromTheEnd hashes parts between known steps, the last one first, until it meets the blocks from
// the front, and moves their end. It returns the hash of the last part. It returns nil if it hashed
// none, or the steps are not those of this file: then the front goes on to the end alone.
func (f *file) fromTheEnd(ctx context.Context, d *feeder, known Steps, done func(int64)) hash.Hash {
	if int64(len(known)) != (f.dbSize-1)/stepSize {
		return nil
	}
	var last hash.Hash
	for n := len(known); n > 0 && ctx.Err() == nil; n-- {
		begin := int64(n) * stepSize
		if d.off+ahead*blockSize > begin {
			break
		}
		h, end := sha256.New(), d.end
		d.end = begin // at once: blocks are passed on meanwhile
		if h.(encoding.BinaryUnmarshaler).UnmarshalBinary(known[n-1]) != nil || !f.hashPart(h, d, begin, end, done) {
			d.end = end
			break
		}
		if n < len(known) && !isAt(h, known[n]) {
			d.end = f.dbSize
			return nil
		}
		if last == nil {
			last = h
		}
	}
	return last
}

// hashPart also passes blocks to the front. If it cannot read something, the front will
// get there and say why.
func (f *file) hashPart(h hash.Hash, d *feeder, from, to int64, done func(int64)) bool {
	for off := from; off < to; off += blockSize {
		d.between(off)
		block, err := f.mapped(off, min(off+blockSize, to))
		if err != nil {
			return false
		}
		err = f.take(h, block)
		_ = unix.Munmap(block)
		if err != nil {
			return false
		}
		done(int64(len(block)))
	}
	return true
}

// join completes the front's hash to the end of the database: with the hash from the end if it
// continues the front, else by hashing that part again.
func (f *file) join(ctx context.Context, front *hasher, last hash.Hash, known Steps, p *progress) error {
	if front.off == f.dbSize {
		return nil
	}
	if n := front.off/stepSize - 1; isAt(front.Hash, known[n]) {
		front.Hash, front.off, front.steps = last, f.dbSize, append(front.steps, known[n+1:]...)
		return nil
	}
	p.more()
	feed := newFeeder(f, false)
	feed.off = front.off
	var err error
	_, hashed := Beside(func() { err = f.hash(front, feed, p.add) })
	feed.rest(ctx)
	hashed()
	feed.over()
	return err
}
