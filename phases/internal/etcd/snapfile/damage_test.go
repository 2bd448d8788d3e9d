package snapfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/etcdpod/etcdpod/e2e/damage"
)

func TestDamageIsFoundByTheCheckThatShouldFindIt(t *testing.T) {
	good := kubernetes(t).snapshot()
	for _, c := range damage.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			path := write(t, c.Make(good))
			before, _ := os.ReadFile(path)
			_, err := Check(t.Context(), path, Options{})
			var b *Bad
			if !errors.As(err, &b) {
				t.Fatalf("got %v, not a verdict", err)
			}
			if b.Check != c.Check {
				t.Errorf("got %s, not %s: %v", b.Check, c.Check, err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was changed: %v", err)
			}
			if _, err := Check(t.Context(), path, Options{Quick: true}); (err == nil) != (b.Check == CheckStructure ||
				b.Check == CheckKeys) {
				t.Errorf("quick: %v", err)
			}
			_, _ = Peek(path) // proves nothing, but must survive
			if _, err := Check(t.Context(), path, Options{Raw: true}); err != nil && !isBad(err) {
				t.Errorf("raw: %v", err)
			}
		})
	}
}

func TestAFreelistThatIsRightIsGood(t *testing.T) {
	good := kubernetes(t).snapshot()
	want := check(t, good, Options{})
	for _, long := range []bool{false, true} {
		if got := check(t, damage.WithFreelist(good, long), Options{}); got.HashKV != want.HashKV {
			t.Errorf("long %v: %+v", long, got)
		}
	}
}

func TestWhatIsNoRegularFileIsBadAndNeverWaitedFor(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		filepath.Join(dir, "absent"), dir, fifo, loop, "/dev/zero", filepath.Join("/dev/null", "below"),
	} {
		for _, o := range []Options{{}, {Quick: true}, {Raw: true}} {
			_, err := Check(t.Context(), path, o)
			var b *Bad
			if !errors.As(err, &b) || b.Check != CheckFile ||
				!strings.HasPrefix(err.Error(), "the snapshot cannot be read: ") {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

func TestAFileThatIsNotThereIsBadAndOneThatNobodyCouldReadIsNot(t *testing.T) {
	for errno, want := range map[syscall.Errno]bool{
		syscall.ENOENT:  true,
		syscall.ENOTDIR: true,
		syscall.EACCES:  false, // of what it holds nothing is known
		syscall.EPERM:   false,
		syscall.EIO:     false,
		syscall.EMFILE:  false,
	} {
		if got := isBad(openError("snapshot.db",
			&os.PathError{Op: "open", Path: "snapshot.db", Err: errno})); got != want {
			t.Errorf("%v: %v", errno, got)
		}
	}
}

func TestAFileThatIsCutWhileItIsHashedIsSaid(t *testing.T) {
	path := write(t, make([]byte, ahead*blockSize+sector))
	f, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	feed := newFeeder(f, false)
	feed.between(0) // maps all blocks but the last
	if err := os.Truncate(path, blockSize); err != nil {
		t.Fatal(err)
	}
	hashed := make(chan error)
	go func() { hashed <- f.hash(newHasher(), feed, func(int64) {}) }()
	feed.rest(t.Context())
	if err := <-hashed; err == nil || isBad(err) || !strings.Contains(err.Error(), "it was truncated while being "+
		"read, or the disk is failing (") {
		t.Errorf("it says %v", err)
	}
	feed.over()
}

// TestEveryFlippedBitIsBad flips each bit of a small snapshot in turn.
func TestEveryFlippedBitIsBad(t *testing.T) {
	good := small(t, true)
	path := write(t, good)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for n := range len(good) * 8 {
		flipped := good[n/8] ^ 1<<(n%8)
		if _, err := f.WriteAt([]byte{flipped}, int64(n/8)); err != nil {
			t.Fatal(err)
		}
		_, err := Check(t.Context(), path, Options{Quick: true})
		var b *Bad
		if !errors.As(err, &b) || b.Check != CheckTrailer {
			t.Fatalf("bit %d of byte %d: %v", n%8, n/8, err)
		}
		if _, err := f.WriteAt(good[n/8:n/8+1], int64(n/8)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEveryCutIsBad cuts a small snapshot after each byte.
func TestEveryCutIsBad(t *testing.T) {
	good := small(t, false)
	path := write(t, good)
	for n := len(good) - 1; n >= 0; n-- {
		if err := os.Truncate(path, int64(n)); err != nil {
			t.Fatal(err)
		}
		_, err := Check(t.Context(), path, Options{})
		var b *Bad
		if !errors.As(err, &b) || b.Check != CheckLength {
			t.Fatalf("%d of %d bytes: %v", n, len(good), err)
		}
	}
}

// TestRandomDamageUnderAValidTrailerIsSurvived corrupts random bytes after the meta pages.
func TestRandomDamageUnderAValidTrailerIsSurvived(t *testing.T) {
	source := rand.New(rand.NewPCG(3, 4))
	for _, good := range [][]byte{small(t, true), small(t, false)} {
		for range 2000 {
			b := bytes.Clone(good[:len(good)-trailerSize])
			for range 1 + source.IntN(3) {
				b[2*1024+source.IntN(len(b)-2*1024)] = byte(source.Uint32())
			}
			survive(t, seal(b))
		}
	}
}

// survive checks a file in all ways. A file that passes must also be fine for bbolt, which crashes
// where the check has a hole.
func survive(t *testing.T, b []byte) {
	path := write(t, b)
	for _, o := range []Options{{}, {Raw: true}, {Quick: true}} {
		_, err := Check(context.Background(), path, o)
		if err != nil && !isBad(err) {
			t.Fatalf("%+v: %v", o, err)
		}
		if err == nil && !o.Quick {
			bboltAgrees(t, path, !o.Raw)
		}
	}
	if _, err := Peek(path); err != nil && !isBad(err) {
		t.Fatalf("peek: %v", err)
	}
}

// bboltAgrees reads everything with bbolt. bbolt's Check works only on whole files: it needs the
// header of a torn meta page, although bbolt opens the file.
func bboltAgrees(t *testing.T, path string, whole bool) {
	writable(t, path)
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		if whole {
			for err := range tx.Check() {
				t.Errorf("bbolt: %v", err)
			}
		}
		return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
			return b.ForEach(func(_, _ []byte) error { return nil })
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// writable opens a copy as etcd's own code does, to write: then bbolt looks for the free pages in a
// goroutine of its own, where a panic would end the program.
func writable(t *testing.T, path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(write(t, b), 0o600, &bolt.Options{NoFreelistSync: true, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
			if k, _ := b.Cursor().First(); k != nil && b.Get(k) != nil {
				if err := b.Delete(k); err != nil {
					return err
				}
			}
			return b.Put([]byte("written"), make([]byte, 3000))
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzCheck corrupts a small file: the input lists places and the bytes to put there, so that most
// of the file keeps its structure.
func FuzzCheck(f *testing.F) {
	goods := [][]byte{small(f, true), small(f, false)}
	f.Add([]byte{0, 0, 8, 2})
	f.Add([]byte{1, 0, 16, 0xff, 0, 17, 0xff})
	f.Fuzz(func(t *testing.T, edits []byte) {
		if len(edits) == 0 {
			return
		}
		good := goods[edits[0]%2]
		b := bytes.Clone(good[:len(good)-trailerSize])
		for edits = edits[1:]; len(edits) >= 3; edits = edits[3:] {
			b[int(binary.BigEndian.Uint16(edits))%len(b)] = edits[2]
		}
		for id := range 2 { // a valid checksum, or nothing deeper is ever reached
			resum(b[id*1024+16:])
		}
		survive(t, seal(b))
	})
}
