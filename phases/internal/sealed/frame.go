package sealed

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// frame lets exactly one zstd frame pass, with a checksum at its end: a decoder would go on with
// a second frame, skip what is marked to be skipped, and take an empty stream for a whole one. See
// RFC 8878, 3.1.1.
type frame struct {
	src *bufio.Reader
	// What may still pass before the next header must be read.
	left  int
	then  func() error // reads the next header
	ahead []byte       // a header that was read, and has not been passed on
	ended bool
	err   error
}

func newFrame(src io.Reader) *frame {
	f := &frame{src: bufio.NewReaderSize(src, 1<<17)}
	f.then = f.header
	return f
}

func (f *frame) Read(p []byte) (int, error) {
	for f.err == nil && len(f.ahead) == 0 && f.left == 0 {
		if f.ended {
			return 0, io.EOF
		}
		f.err = f.then()
	}
	if f.err != nil {
		return 0, f.err
	}
	if n := copy(p, f.ahead); n > 0 || len(p) == 0 {
		f.ahead = f.ahead[n:]
		return n, nil
	}
	n, err := f.src.Read(p[:min(len(p), f.left)])
	f.left -= n
	if err != nil {
		f.err = cutOff(err)
	}
	return n, f.err
}

// take reads a part of a header, which is passed on after it was looked at.
func (f *frame) take(n int) ([]byte, error) {
	at := len(f.ahead)
	f.ahead = append(f.ahead, make([]byte, n)...)
	_, err := io.ReadFull(f.src, f.ahead[at:])
	return f.ahead[at:], cutOff(err)
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

const (
	hasChecksum    = 1 << 2
	reservedBit    = 1 << 3
	singleSegment  = 1 << 5
	checksumLength = 4
)

func (f *frame) header() error {
	f.ahead = nil
	magic, err := f.take(len(zstdMagic))
	if err != nil {
		return err
	}
	if !IsCompressed(magic) {
		return fmt.Errorf("%w: what is inside is no zstd frame", ErrDamaged)
	}
	one, err := f.take(1)
	if err != nil {
		return err
	}
	d := one[0]
	if d&hasChecksum == 0 || d&reservedBit != 0 {
		return fmt.Errorf("%w: the zstd frame has no checksum, or is of another version", ErrDamaged)
	}
	more := []int{0, 1, 2, 4}[d&3] // dictionary
	size := []int{0, 2, 4, 8}[d>>6]
	if d&singleSegment == 0 {
		more++ // window
	} else {
		size = max(size, 1)
	}
	if _, err := f.take(more + size); err != nil {
		return err
	}
	f.then = f.block
	return nil
}

func (f *frame) block() error {
	f.ahead = nil
	h, err := f.take(3)
	if err != nil {
		return err
	}
	v := int(h[0]) | int(h[1])<<8 | int(h[2])<<16
	switch f.left = v >> 3; v >> 1 & 3 {
	case 1: // one byte, repeated
		f.left = 1
	case 3:
		return fmt.Errorf("%w: the zstd frame has a block of no known kind", ErrDamaged)
	}
	if v&1 != 0 {
		f.left += checksumLength
		f.then = nil
		f.ended = true
	}
	return nil
}

// finish says whether the frame has ended, with nothing after it. It reads to the end of what is
// around it, so that this is held against its own end, too.
func (f *frame) finish() error {
	if f.err != nil {
		return f.err
	}
	if !f.ended || f.left > 0 || len(f.ahead) > 0 {
		return io.ErrUnexpectedEOF
	}
	switch _, err := f.src.ReadByte(); {
	case err == nil:
		return fmt.Errorf("%w: something follows its end", ErrDamaged)
	case errors.Is(err, io.EOF):
		return nil
	default:
		return err
	}
}
