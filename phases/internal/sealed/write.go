package sealed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// Format is the version of the format, which sidecars name.
const Format = 1

// Suffixes of the names of what Write makes, after that of what is inside.
const (
	Compressed = ".zst"
	Encrypted  = ".age"
)

// mostWindow bounds what a reader must keep in memory of what it has unpacked: 8 MiB, as RFC 8878
// recommends that every decoder supports.
const mostWindow = 8 << 20

// Options say how Write writes.
type Options struct {
	To []Recipient // who can read it; none: it is not encrypted
}

// Sum is what a stream consists of.
type Sum struct {
	SHA256 string // hex
	Size   int64  // bytes
}

// Sums are those of what is stored, and of what is inside.
type Sums struct{ Stored, Plain Sum }

// Write compresses and encrypts a stream, in bounded memory. Only after it has returned without an
// error is the output whole.
func Write(dst io.Writer, src io.Reader, o Options) (Sums, error) {
	stored, plain := newCounted(), newCounted()
	out := io.MultiWriter(dst, stored)
	encrypted, err := encrypt(out, o.To)
	if err != nil {
		return Sums{}, err
	}
	packed, err := zstd.NewWriter(encrypted, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(4<<20), zstd.WithEncoderCRC(true),
		zstd.WithZeroFrames(true))
	if err != nil {
		return Sums{}, err
	}
	// A read error must not end the frame: it would make a short stream look whole.
	both := io.TeeReader(onlyReader{src}, plain)
	if _, err := io.CopyBuffer(onlyWriter{packed}, both, make([]byte, 1<<20)); err != nil {
		packed.Reset(io.Discard) // ends its goroutines
		return Sums{}, errors.Join(err, packed.Close())
	}
	if err := packed.Close(); err != nil {
		return Sums{}, err
	}
	if err := encrypted.Close(); err != nil {
		return Sums{}, err
	}
	return Sums{Stored: stored.sum(), Plain: plain.sum()}, nil
}

// encrypt is the writer to what is stored.
func encrypt(dst io.Writer, to []Recipient) (io.WriteCloser, error) {
	if len(to) == 0 {
		return unencrypted{dst}, nil
	}
	w, err := age.Encrypt(dst, ages(to)...)
	if err != nil {
		return nil, fmt.Errorf("cannot encrypt: %w", err)
	}
	return w, nil
}

type unencrypted struct{ io.Writer }

func (unencrypted) Close() error { return nil }

// These keep io.Copy from leaving out the buffer, and so the hash.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// counted hashes and counts what is written to it.
type counted struct {
	hash hash.Hash
	size int64
}

func newCounted() *counted { return &counted{hash: sha256.New()} }

func (c *counted) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	return c.hash.Write(p)
}

func (c *counted) sum() Sum { return Sum{hex.EncodeToString(c.hash.Sum(nil)), c.size} }

// SumOf reads a stream to its end.
func SumOf(src io.Reader) (Sum, error) {
	c := newCounted()
	if _, err := io.CopyBuffer(c, onlyReader{src}, make([]byte, 1<<20)); err != nil {
		return Sum{}, err
	}
	return c.sum(), nil
}

var (
	ageMagic  = []byte("age-encryption.org/v1\n")
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// IsEncrypted says whether a stream begins as age's do.
func IsEncrypted(head []byte) bool { return bytes.HasPrefix(head, ageMagic) }

// IsCompressed says whether a stream begins as zstd's do.
func IsCompressed(head []byte) bool { return bytes.HasPrefix(head, zstdMagic) }

// HeadSize is how many bytes of a file IsEncrypted and IsCompressed look at.
const HeadSize = 22
