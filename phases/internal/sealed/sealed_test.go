package sealed

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// someone is a new recipient, with the identity.
func someone(t testing.TB) (Recipient, Identity) {
	t.Helper()
	made, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return both(t, made.Recipient().String(), made.String())
}

func both(t testing.TB, recipient, identity string) (Recipient, Identity) {
	t.Helper()
	r, err := ParseRecipient(recipient)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := ParseIdentities([]byte("# made for a test\n" + identity + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return r, ids[0]
}

// data is some that can be compressed, always the same.
func data(size int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.IntN(32))
	}
	return b
}

func write(t testing.TB, plain []byte, to ...Recipient) ([]byte, Sums) {
	t.Helper()
	var b bytes.Buffer
	sums, err := Write(&b, bytes.NewReader(plain), Options{To: to})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), sums
}

// read opens and reads everything.
func read(stored []byte, size int64, ids ...Identity) ([]byte, Sums, error) {
	r, err := Open(bytes.NewReader(stored), ids, size)
	if err != nil {
		return nil, Sums{}, err
	}
	defer r.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, r); err != nil {
		return nil, Sums{}, err
	}
	return b.Bytes(), r.Sums(), nil
}

func sumOf(b []byte) Sum { return Sum{fmt.Sprintf("%x", sha256.Sum256(b)), int64(len(b))} }

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	x, xid := someone(t)
	y, yid := someone(t)
	for _, size := range []int{0, 1, 21, 65535, 65536, 65537, 1 << 20, 5<<20 + 3} {
		for name, c := range map[string]struct {
			to  []Recipient
			ids []Identity
		}{
			"compressed": {}, "encrypted": {[]Recipient{x}, []Identity{xid}},
			"to two":                {[]Recipient{x, y}, []Identity{yid}},
			"one of two identities": {[]Recipient{x}, []Identity{yid, xid}},
		} {
			plain := data(size)
			stored, sums := write(t, plain, c.to...)
			if sums.Plain != sumOf(plain) || sums.Stored != sumOf(stored) {
				t.Errorf("%s, %d: the sums are %+v", name, size, sums)
			}
			for _, expected := range []int64{int64(size), -1} {
				got, again, err := read(stored, expected, c.ids...)
				if err != nil || !bytes.Equal(got, plain) || again != sums {
					t.Errorf("%s, %d: %v, %+v", name, size, err, again)
				}
			}
			if _, _, err := read(stored, int64(size)+1, c.ids...); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: one byte more was expected: %v", name, err)
			}
			if size > 0 {
				if _, _, err := read(stored, int64(size)-1, c.ids...); !errors.Is(err, ErrDamaged) {
					t.Errorf("%s: one byte less was expected: %v", name, err)
				}
			}
		}
	}
}

// A short read must not become a short backup.
func TestAReadErrorWhileWritingIsNotAnEnd(t *testing.T) {
	failed := errors.New("the disk")
	to, id := someone(t)
	for _, recipients := range [][]Recipient{nil, {to}} {
		var b bytes.Buffer
		src := io.MultiReader(bytes.NewReader(data(3<<20)), iotest.ErrReader(failed))
		if _, err := Write(&b, src, Options{To: recipients}); !errors.Is(err, failed) {
			t.Errorf("%v", err)
		}
		if got, _, err := read(b.Bytes(), -1, id); err == nil {
			t.Errorf("%d bytes are read of what was given up", len(got))
		}
	}
}

func TestAWriteErrorIsOne(t *testing.T) {
	to, _ := someone(t)
	for _, recipients := range [][]Recipient{nil, {to}} {
		for _, most := range []int{0, 10, 1 << 16, 1 << 20} {
			_, err := Write(&full{most}, bytes.NewReader(data(3<<20)), Options{To: recipients})
			if !errors.Is(err, errFull) {
				t.Errorf("%d: %v", most, err)
			}
		}
	}
}

var errFull = errors.New("no space")

type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// A read error is told from damage: to try again helps against one of them only.
func TestAReadErrorIsNotDamage(t *testing.T) {
	to, id := someone(t)
	failed := errors.New("connection reset")
	for _, recipients := range [][]Recipient{nil, {to}} {
		stored, _ := write(t, data(1<<20), recipients...)
		for _, at := range []int{0, 3, 30, 300, 1 << 17, len(stored) - 1, len(stored)} {
			src := io.MultiReader(bytes.NewReader(stored[:at]), iotest.ErrReader(failed))
			r, err := Open(src, []Identity{id}, -1)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
			if !errors.Is(err, failed) || errors.Is(err, ErrDamaged) {
				t.Errorf("at %d: %v", at, err)
			}
		}
	}
}

func TestEachFlippedBitOfAnEncryptedOneIsAnError(t *testing.T) {
	to, id := someone(t)
	other, _ := someone(t)
	plain := data(700)
	stored, _ := write(t, plain, to, other)
	for i := range stored {
		for bit := range 8 {
			bad := slices.Clone(stored)
			bad[i] ^= 1 << bit
			_, _, err := read(bad, int64(len(plain)), id)
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrIdentity) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
}

// Without encryption a flip may leave what is inside as it is (the window's size, for one). Then
// the sum of what is stored tells.
func TestEachFlippedBitOfAPlainOneIsFound(t *testing.T) {
	plain := data(700)
	stored, sums := write(t, plain)
	for i := range stored {
		for bit := range 8 {
			bad := slices.Clone(stored)
			bad[i] ^= 1 << bit
			_, got, err := read(bad, int64(len(plain)))
			if err == nil && (got.Stored == sums.Stored || got.Plain != sums.Plain) {
				t.Fatalf("bit %d of byte %d: nothing tells", bit, i)
			}
		}
	}
}

func TestEachTruncationIsAnError(t *testing.T) {
	to, id := someone(t)
	for _, recipients := range [][]Recipient{nil, {to}} {
		stored, _ := write(t, data(700), recipients...)
		for n := range stored {
			for _, size := range []int64{700, -1} {
				if _, _, err := read(stored[:n], size, id); !errors.Is(err, ErrDamaged) {
					t.Fatalf("cut to %d of %d: %v", n, len(stored), err)
				}
			}
		}
	}
}

// Large ones are cut where age's chunks and zstd's blocks begin, and around it.
func TestATruncationAtAChunkIsAnError(t *testing.T) {
	to, id := someone(t)
	const chunk = 64<<10 + 16
	for _, recipients := range [][]Recipient{nil, {to}} {
		stored, _ := write(t, data(2<<20), recipients...)
		head := len(stored) % chunk
		for at := head; at < len(stored); at += chunk {
			for _, n := range []int{at - 1, at, at + 1, at + 16} {
				if _, _, err := read(stored[:max(0, min(n, len(stored)-1))], -1, id); !errors.Is(err, ErrDamaged) {
					t.Fatalf("cut to %d of %d: %v", n, len(stored), err)
				}
			}
		}
	}
}

// payload is where age's chunks begin: after the header's last line and a nonce.
func payload(t testing.TB, stored []byte) int {
	t.Helper()
	at := bytes.Index(stored, []byte("\n--- "))
	if at < 0 {
		t.Fatal("no header")
	}
	return at + 5 + 43 + 1 + 16
}

func TestChunksThatAreSwappedDroppedOrRepeatedAreAnError(t *testing.T) {
	to, id := someone(t)
	stored, _ := write(t, data(2<<20), to)
	const chunk = 64<<10 + 16
	at := payload(t, stored)
	piece := func(i int) []byte { return stored[at+i*chunk : at+(i+1)*chunk] }
	rest := func(i int) []byte { return stored[at+i*chunk:] }
	foreign, _ := write(t, data(2<<20), to)
	for name, bad := range map[string][]byte{
		"swapped":      slices.Concat(stored[:at], piece(1), piece(0), rest(2)),
		"dropped":      slices.Concat(stored[:at], rest(1)),
		"repeated":     slices.Concat(stored[:at], piece(0), rest(0)),
		"from another": slices.Concat(stored[:at], piece(0), foreign[payload(t, foreign)+chunk:]),
		"header alone": stored[:at],
		"other header": slices.Concat(foreign[:payload(t, foreign)], rest(0)),
	} {
		if _, _, err := read(bad, -1, id); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// sealing encrypts any bytes, as somebody could who knows the recipient.
func sealing(t testing.TB, to Recipient, inside []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to.to)
	if err == nil {
		_, err = w.Write(inside)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packed(t testing.TB, plain []byte, o ...zstd.EOption) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, append([]zstd.EOption{zstd.WithZeroFrames(true)}, o...)...)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(plain, nil)
}

func TestWhateverFollowsTheEndIsAnError(t *testing.T) {
	to, id := someone(t)
	plain := data(3000)
	frame, _ := write(t, plain)
	skippable := []byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4}
	for name, after := range map[string][]byte{
		"a byte": {0}, "a line": []byte("\n"), "a second frame": frame, "an empty frame": packed(t, nil),
		"a frame to skip": skippable, "zeros": make([]byte, 100_000), "itself twice": slices.Concat(frame, frame),
	} {
		for _, size := range []int64{int64(len(plain)), 2 * int64(len(plain)), -1} {
			if _, _, err := read(slices.Concat(frame, after), size); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s after zstd: %v", name, err)
			}
			if _, _, err := read(sealing(t, to, slices.Concat(frame, after)), size, id); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s after zstd in age: %v", name, err)
			}
			if _, _, err := read(slices.Concat(sealing(t, to, frame), after), size, id); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s after age: %v", name, err)
			}
		}
	}
}

func TestWhatIsNoFrameOfOursIsAnError(t *testing.T) {
	to, id := someone(t)
	skippable := []byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4}
	frame, _ := write(t, data(3000))
	inner, _ := write(t, data(3000), to)
	for name, inside := range map[string][]byte{
		"nothing": {}, "plain": data(3000), "no checksum": packed(t, data(3000), zstd.WithEncoderCRC(false)),
		"to skip, first": slices.Concat(skippable, frame), "age again": inner,
		"the magic alone": zstdMagic,
	} {
		if _, _, err := read(inside, -1); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrIdentity) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := read(sealing(t, to, inside), -1, id); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s in age: %v", name, err)
		}
	}
}

// A small file must not fill the disk, or the memory.
func TestABombIsBounded(t *testing.T) {
	bomb, _ := write(t, make([]byte, 256<<20))
	if len(bomb) > 1<<20 {
		t.Fatalf("it is no bomb: %d bytes", len(bomb))
	}
	r, err := Open(bytes.NewReader(bomb), nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	if !errors.Is(err, ErrDamaged) || n > 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	large := packed(t, data(20<<20), zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(true))
	if _, _, err := read(large, -1); !errors.Is(err, ErrDamaged) {
		t.Errorf("a window of 20 MiB: %v", err)
	}
}

func TestAWrongIdentityIsToldFromDamage(t *testing.T) {
	to, _ := someone(t)
	_, wrong := someone(t)
	stored, _ := write(t, data(100), to)
	if _, _, err := read(stored, -1, wrong); !errors.Is(err, ErrIdentity) || errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
	if _, _, err := read(stored, -1); !errors.Is(err, ErrIdentity) {
		t.Errorf("%v", err)
	}
}

func TestReadsOfAnySizeGiveTheSame(t *testing.T) {
	to, id := someone(t)
	plain := data(300_000)
	stored, sums := write(t, plain, to)
	for name, by := range map[string]func(io.Reader) io.Reader{
		"one byte": iotest.OneByteReader, "half": iotest.HalfReader, "with the error": iotest.DataErrReader,
	} {
		r, err := Open(by(bytes.NewReader(stored)), []Identity{id}, int64(len(plain)))
		if err != nil {
			t.Fatal(err)
		}
		reads := by
		if name == "with the error" { // it drops bytes that come with an io.EOF
			reads = iotest.HalfReader
		}
		got, err := io.ReadAll(reads(r))
		if err != nil || !bytes.Equal(got, plain) || r.Sums() != sums {
			t.Errorf("%s: %v", name, err)
		}
		if n, err := r.Read(make([]byte, 10)); n != 0 || err != io.EOF {
			t.Errorf("%s: after the end: %d, %v", name, n, err)
		}
		r.Close()
	}
}

func FuzzDamage(f *testing.F) {
	to, id := someone(f)
	plain := data(100_000)
	stored, _ := write(f, plain, to)
	clear, sums := write(f, plain)
	f.Add(uint32(30), byte(1), uint32(0), []byte{})
	f.Add(uint32(70_000), byte(255), uint32(3), []byte("x"))
	f.Fuzz(func(t *testing.T, at uint32, flip byte, cut uint32, after []byte) {
		for _, whole := range [][]byte{stored, clear} {
			bad := slices.Clone(whole)
			bad[int(at)%len(bad)] ^= flip
			bad = append(bad[:len(bad)-int(cut)%len(bad)], after...)
			got, read, err := read(bad, int64(len(plain)), id)
			if err == nil && (!bytes.Equal(got, plain) || bytes.Equal(bad, whole) != (read.Stored == sumOf(whole))) {
				t.Errorf("%d bytes, and nothing tells", len(got))
			}
			if err == nil && bytes.HasPrefix(whole, ageMagic) && !bytes.Equal(bad, whole) {
				t.Error("an encrypted one was changed, and nothing tells")
			}
		}
		_ = sums
	})
}

// What comes out of any bytes is an error, and never a panic.
func FuzzOpen(f *testing.F) {
	to, id := someone(f)
	frame, _ := write(f, data(100))
	f.Add(frame)
	f.Add([]byte(strings.Repeat("x", 40)))
	f.Fuzz(func(t *testing.T, inside []byte) {
		_, _, _ = read(inside, 1<<20, id)
		_, _, _ = read(sealing(t, to, inside), 1<<20, id)
	})
}
