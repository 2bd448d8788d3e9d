package snapfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"testing"
)

// tall writes a good snapshot with room after its pages, as bbolt leaves it: four whole parts
// between steps, and half a part. A byte in each part makes it different.
func tall(t *testing.T) string {
	db := kubernetes(t).snapshot()
	path := write(t, db[:len(db)-trailerSize])
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 4*stepSize + stepSize/2
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for part := range int64(5) {
		if _, err := f.WriteAt([]byte{byte(part + 1)}, part*stepSize+stepSize/3); err != nil {
			t.Fatal(err)
		}
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(h.Sum(nil), size); err != nil {
		t.Fatal(err)
	}
	return path
}

// opened is such a file, with its report.
func opened(t *testing.T) (*file, *Report) {
	path := tall(t)
	r, err := Check(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, r
}

func TestStepsChangeNothingButTheTime(t *testing.T) {
	path := tall(t)
	want, err := Check(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(want.Steps) != 4 {
		t.Fatalf("%d steps", len(want.Steps))
	}
	right := want.Steps
	wrong := map[string]Steps{"the right ones": right, "too few": right[:3],
		"too many": append(slices.Clone(right), right[0]), "none but in number": make(Steps, 4)}
	for i := range right {
		for name, step := range map[string][]byte{
			"a bit": flip(right[i], 10), "a bit of the length": flip(right[i], len(right[i])-1),
			"a bit of the kind": flip(right[i], 3),
			"another":           right[(i+1)%4], "empty": {}, "of a fresh hash": fresh(t),
		} {
			s := slices.Clone(right)
			s[i] = step
			wrong[name+" at "+string(rune('0'+i))] = s
		}
	}
	for name, steps := range wrong {
		for _, quick := range []bool{false, true} {
			got, err := Check(t.Context(), path, Options{Steps: steps, Quick: quick})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if got.SHA256 != want.SHA256 || !reflect.DeepEqual(got.Steps, right) ||
				!quick && !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, want %+v", name, got, want)
			}
		}
	}
}

func TestNoStepsMakeABadFileGood(t *testing.T) {
	path := tall(t)
	good, err := Check(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for part := range int64(5) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		at := part*stepSize + stepSize/3
		if _, err := f.WriteAt([]byte{99}, at); err != nil {
			t.Fatal(err)
		}
		// Whoever changed the file can have made new steps.
		own, err := Check(t.Context(), path, Options{Raw: true})
		if err != nil {
			t.Fatal(err)
		}
		for name, steps := range map[string]Steps{"of the good file": good.Steps, "of its own": own.Steps} {
			_, err := Check(t.Context(), path, Options{Steps: steps})
			var bad *Bad
			if !errors.As(err, &bad) || bad.Check != CheckTrailer {
				t.Errorf("part %d, steps %s: %v", part, name, err)
			}
		}
		if _, err := f.WriteAt([]byte{byte(part + 1)}, at); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}

// The end is hashed from the end, not by the front after all.
func TestKnownStepsSpareTheFrontTheEnd(t *testing.T) {
	f, r := opened(t)
	feed := newFeeder(f, false)
	// Nobody takes the blocks from the front: it stays in the first part.
	last := f.fromTheEnd(t.Context(), feed, r.Steps, func(int64) {})
	if last == nil || feed.end != stepSize {
		t.Fatalf("hashed %v, the front ends at %d", last != nil, feed.end)
	}
	if sum := last.Sum(nil); hex.EncodeToString(sum) != r.Trailer {
		t.Errorf("the hash is %x, and should be %s", sum, r.Trailer)
	}
	for range ahead {
		feed.used <- <-feed.blocks
	}
	feed.over()
}

// However fast the front is, it stops where the end begins.
func TestTheFrontNeverGoesWhereTheEndWasHashed(t *testing.T) {
	f, r := opened(t)
	feed, taken := newFeeder(f, false), make(chan int64)
	go func() {
		var n int64
		for b := range feed.blocks { // far faster than a hash
			n += int64(len(b))
			feed.used <- b
		}
		taken <- n
	}()
	last := f.fromTheEnd(t.Context(), feed, r.Steps, func(int64) {})
	feed.rest(t.Context())
	if n := <-taken; last == nil || n != feed.end || n == f.dbSize {
		t.Errorf("hashed from the end: %v; the front went to %d, and the end began at %d", last != nil, n, feed.end)
	}
	feed.over()
}

func flip(step []byte, at int) []byte {
	b := bytes.Clone(step)
	b[at] ^= 1
	return b
}

func fresh(t *testing.T) []byte {
	state, err := stateOf(sha256.New())
	if err != nil {
		t.Fatal(err)
	}
	return state
}
