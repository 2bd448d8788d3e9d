package snapfile

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadsAreTheSameWhereverTheyComeFrom(t *testing.T) {
	path, random := filepath.Join(t.TempDir(), "file"), rand.New(rand.NewPCG(1, 2))
	want := make([]byte, 1<<20)
	for i := range want {
		want[i] = byte(random.Uint32())
	}
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, waited := int(f.Fd()), 0
	for range 200 {
		if err := errors.Join(unix.Fdatasync(fd), unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED),
			unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM)); err != nil {
			t.Fatal(err)
		}
		// A cached part among uncached ones.
		if _, err := f.File.ReadAt(make([]byte, 4096), int64(random.IntN(len(want)-4096))); err != nil {
			t.Fatal(err)
		}
		off := random.Int64N(int64(len(want)))
		got := make([]byte, random.IntN(len(want)))
		if f.cached(bytes.Clone(got), off) < min(len(got), len(want)-int(off)) {
			waited++
		}
		n, err := f.ReadAt(got, off)
		rest := want[off:]
		if short := len(rest) < len(got); short != (err == io.EOF) || !short && err != nil {
			t.Fatalf("%d bytes at offset %d: %d, %v", len(got), off, n, err)
		}
		if !bytes.Equal(got[:n], rest[:min(len(rest), len(got))]) {
			t.Fatalf("%d bytes at offset %d are not those of the file", len(got), off)
		}
	}
	t.Logf("%d of 200 had to wait for the disk", waited)
	if n, err := f.ReadAt(make([]byte, 1), int64(len(want))); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if n, err := f.ReadAt(nil, 0); n != 0 || err != nil {
		t.Errorf("nothing: %d, %v", n, err)
	}
}

// Cached data must come from the cache: if it always took the slow path, only
// the time would show it.
func TestWhatIsCachedIsReadWithoutWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 64<<10)
	if _, err := f.File.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	to := [][]byte{b}
	if _, err := unix.Preadv2(int(f.Fd()), to, 0, unix.RWF_NOWAIT); err != nil {
		t.Skipf("the file system of %s cannot tell what is cached: %v", path, err)
	}
	if n := f.cached(b, 0); n != len(b) {
		t.Errorf("%d of %d bytes", n, len(b))
	}
}
