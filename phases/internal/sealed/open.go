package sealed

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// ErrDamaged says that a stream is not what Write has written: cut off, changed, or with something
// after its end.
var ErrDamaged = errors.New("it is damaged")

// ErrIdentity says that no identity opens it.
var ErrIdentity = errors.New("none of the identities opens it")

// Reader gives what is inside. It ends with io.EOF only at the proper end of a stream that is whole
// and held as many bytes as were expected; anything else ends with another error. What was read
// before an error proves nothing.
type Reader struct {
	source        *source // of the stored bytes
	stored, plain *counted
	frame         *frame
	packed        *zstd.Decoder
	size          int64 // expected; negative: not known
	err           error
}

// Open begins to read, by what the stream begins with. size is how many bytes must be inside: it
// bounds what a small stream can unpack to; negative: any number.
func Open(src io.Reader, ids []Identity, size int64) (*Reader, error) {
	r := &Reader{source: &source{src: src}, stored: newCounted(), plain: newCounted(), size: size}
	in := bufio.NewReaderSize(io.TeeReader(r.source, r.stored), 1<<17)
	head, err := in.Peek(HeadSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var inside io.Reader = in
	switch {
	case IsEncrypted(head):
		if inside, err = decrypt(in, ids); err != nil {
			return nil, r.damage(err)
		}
	case !IsCompressed(head):
		return nil, fmt.Errorf("%w: it begins neither as zstd nor as age", ErrDamaged)
	}
	r.frame = newFrame(inside)
	r.packed, err = zstd.NewReader(r.frame, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(mostWindow))
	if err != nil {
		return nil, err
	}
	return r, nil
}

func decrypt(src io.Reader, ids []Identity) (io.Reader, error) {
	if len(ids) == 0 {
		return nil, fmt.Errorf("%w: there is none, and it is encrypted", ErrIdentity)
	}
	var of []age.Identity
	for _, id := range ids {
		of = append(of, id.of)
	}
	inside, err := age.Decrypt(src, of...)
	if wrong := (*age.NoIdentityMatchError)(nil); errors.As(err, &wrong) {
		return nil, ErrIdentity
	}
	return inside, err
}

// damage makes an error of the stream's contents ErrDamaged, and leaves one of reading it.
func (r *Reader) damage(err error) error {
	switch {
	case r.source.err != nil:
		return r.source.err
	case errors.Is(err, ErrIdentity), errors.Is(err, ErrDamaged):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it was cut off", ErrDamaged)
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.packed.Read(p)
	_, _ = r.plain.Write(p[:n]) // never fails
	switch {
	case r.size >= 0 && r.plain.size > r.size:
		n, err = 0, fmt.Errorf("%w: more than the expected %d bytes are inside", ErrDamaged, r.size)
	case errors.Is(err, io.EOF):
		err = r.end()
	case err != nil:
		err = r.damage(err)
	}
	r.err = err
	return n, err
}

// end says whether the stream has ended as it must.
func (r *Reader) end() error {
	if err := r.frame.finish(); err != nil {
		return r.damage(err)
	}
	if r.size >= 0 && r.plain.size != r.size {
		return fmt.Errorf("%w: %d bytes are inside, and %d were expected", ErrDamaged, r.plain.size, r.size)
	}
	return io.EOF
}

// Sums are those of all that was read: known once Read has returned io.EOF.
func (r *Reader) Sums() Sums { return Sums{Stored: r.stored.sum(), Plain: r.plain.sum()} }

// Close frees what the reader holds; it does not close the source.
func (r *Reader) Close() { r.packed.Close() }

// source remembers an error of reading, as those that read from it may say it in other words.
type source struct {
	src io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.src.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
