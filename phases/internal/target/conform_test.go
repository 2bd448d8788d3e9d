package target

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// place is a target that the suite below is run against.
type place struct {
	dial func(t *testing.T, prefix string) Store
	// nowhere is a target of the same kind whose place is not there.
	nowhere func(t *testing.T) Store
	// hidden lists what is there without a name: what was cut off.
	hidden func(t *testing.T) []string
	large  int // bytes: it takes more than one request, or step
	many   int // objects: more than one page of a list
	// secret is what no error may show.
	secret string
}

// conforms is what every kind of target must do.
func conforms(t *testing.T, p place) {
	for _, c := range []struct {
		name string
		test func(*testing.T, place)
	}{
		{"what is put is what is there", putAndRead}, {"nothing is overwritten", neverOverwritten},
		{"of two that write at once one wins", oneWins}, {"what is cut off has no name", cutOff},
		{"lists are whole and sorted", lists}, {"what is deleted is gone", deletes},
		{"names lead nowhere else", oddNames}, {"prefixes are apart", apart}, {"a place that is not there", nowhere},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, p) })
	}
}

func random(seed uint64, n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(data)
	return data
}

func put(t *testing.T, s Store, name string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), name, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s Store, name string) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

func names(t *testing.T, s Store, prefix string) (all []string) {
	t.Helper()
	for o, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o.Name)
	}
	return all
}

func putAndRead(t *testing.T, p place) {
	s := p.dial(t, "put")
	for name, size := range map[string]int{"empty": 0, "one": 1, "c1/small": 1000, "c1/large": p.large,
		"c1/whole": p.large / 2 / step * step} {
		data := random(uint64(size), size)
		put(t, s, name, data)
		if got := read(t, p.dial(t, "put"), name); sha256.Sum256(got) != sha256.Sum256(data) {
			t.Errorf("%s: %d bytes were put, and %d others came back", name, len(data), len(got))
		}
		for o, err := range s.List(t.Context(), name) {
			if err != nil || o.Name != name || o.Size != int64(size) || time.Since(o.Modified).Abs() > time.Hour {
				t.Errorf("listed as %+v, %v", o, err)
			}
		}
	}
}

func neverOverwritten(t *testing.T, p place) {
	s := p.dial(t, "once")
	put(t, s, "c1/a", []byte("first"))
	for _, second := range [][]byte{[]byte("second"), random(1, p.large)} {
		if err := s.Put(t.Context(), "c1/a", bytes.NewReader(second)); !errors.Is(err, ErrExists) {
			t.Errorf("a second put: %v", err)
		}
	}
	if got := read(t, s, "c1/a"); string(got) != "first" {
		t.Errorf("it holds %.20q now", got)
	}
}

func oneWins(t *testing.T, p place) {
	var ended sync.WaitGroup
	const writers = 4
	stores, results := make([]Store, writers), make([]error, writers)
	for i := range writers {
		stores[i] = p.dial(t, "race")
	}
	for i := range writers {
		ended.Go(func() {
			data := bytes.Repeat([]byte{byte('a' + i)}, 100_000)
			results[i] = stores[i].Put(t.Context(), "c1/raced", bytes.NewReader(data))
		})
	}
	ended.Wait()
	var won []int
	for i, err := range results {
		if err == nil {
			won = append(won, i)
		} else if !errors.Is(err, ErrExists) {
			t.Errorf("%d: %v", i, err)
		}
	}
	got := read(t, stores[0], "c1/raced")
	if len(won) != 1 || !bytes.Equal(got, bytes.Repeat([]byte{byte('a' + won[0])}, 100_000)) {
		t.Errorf("%v won, and it begins with %.3q", won, got)
	}
}

var errBroken = errors.New("the disk broke")

// breaking is a stream that breaks after so many bytes.
type breaking struct {
	left int
	then func() error
}

func (b *breaking) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, b.then()
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

func cutOff(t *testing.T, p place) {
	for i, after := range []int{0, 1, p.large / 2, p.large} {
		s, name := p.dial(t, "cut"), fmt.Sprintf("c1/cut%d", i)
		err := s.Put(t.Context(), name, &breaking{after, func() error { return errBroken }})
		if !errors.Is(err, errBroken) || errors.Is(err, ErrExists) {
			t.Errorf("the error was lost after %d bytes: %v", after, err)
		}
		err = s.Put(t.Context(), name, &breaking{after, func() error { return io.ErrUnexpectedEOF }})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a stream that was cut off was taken for a whole one: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		err = s.Put(ctx, name, &breaking{after, func() error { cancel(); return ctx.Err() }})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		s = p.dial(t, "cut")
		if left := names(t, s, ""); len(left) > 0 {
			t.Fatalf("after %d bytes there is %v", after, left)
		}
		if err := s.Sweep(t.Context(), "c1/cut", time.Now().Add(time.Minute)); err != nil {
			t.Error(err)
		}
		if left := p.hidden(t); len(left) > 0 {
			t.Errorf("what was cut off is left after %d bytes: %v", after, left)
		}
		put(t, s, name, []byte("now"))
		if err := s.Delete(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
}

func lists(t *testing.T, p place) {
	s := p.dial(t, "list")
	if all := names(t, s, ""); len(all) > 0 {
		t.Errorf("before anything is put there is %v", all)
	}
	var want []string
	for i := range p.many {
		name := fmt.Sprintf("c1/n%05d", p.many-i)
		put(t, s, name, []byte("x"))
		want = append(want, name)
	}
	put(t, s, "c2/n1", nil)
	put(t, s, "top", nil)
	slices.Sort(want)
	if got := names(t, s, "c1/"); !slices.Equal(got, want) {
		t.Errorf("%d of %d are listed", len(got), len(want))
	}
	if got := names(t, s, "c1/n00001"); !slices.Equal(got, []string{"c1/n00001"}) {
		t.Errorf("of one prefix: %v", got)
	}
	if got := names(t, s, ""); len(got) != p.many+2 || !slices.IsSorted(got) {
		t.Errorf("%d of all are listed", len(got))
	}
	for range s.List(t.Context(), "") {
		break // who has seen enough may stop
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	last := error(nil)
	for _, err := range p.dial(t, "list").List(ctx, "") {
		last = err
	}
	if last == nil {
		t.Error("a list that was cancelled ends like a whole one")
	}
}

func deletes(t *testing.T, p place) {
	s := p.dial(t, "delete")
	put(t, s, "c1/a", []byte("a"))
	put(t, s, "c1/ab", []byte("b"))
	if err := s.Delete(t.Context(), "c1/a"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s, ""); !slices.Equal(got, []string{"c1/ab"}) {
		t.Errorf("left is %v", got)
	}
	_, err := s.Open(t.Context(), "c1/a")
	if !errors.Is(err, ErrNotExist) || errors.Is(err, ErrNoPlace) {
		t.Errorf("open: %v", err)
	}
	if err := s.Delete(t.Context(), "c1/a"); !errors.Is(err, ErrNotExist) {
		t.Errorf("delete: %v", err)
	}
	put(t, s, "c1/a", []byte("again"))
}

func oddNames(t *testing.T, p place) {
	s := p.dial(t, "odd")
	for _, name := range []string{"", "/etc/x", "../x", "c1/../../x", "c1//x", "c1/", ".hidden", "c1/.hidden",
		"a\x00b"} {
		if err := s.Put(t.Context(), name, strings.NewReader("x")); err == nil {
			t.Errorf("%q was put", name)
		}
		if _, err := s.Open(t.Context(), name); err == nil {
			t.Errorf("%q was opened", name)
		}
		if err := s.Delete(t.Context(), name); err == nil {
			t.Errorf("%q was deleted", name)
		}
	}
	for _, name := range []string{"c1/etcd-cp1-20260801T020000Z-r81234.db.zst.age.json.sig",
		"c1/with space+plus%41&é"} {
		put(t, s, name, []byte(name))
		if got := names(t, s, "c1/"); !slices.Contains(got, name) || string(read(t, s, name)) != name {
			t.Errorf("%q is listed as %q", name, got)
		}
	}
}

func apart(t *testing.T, p place) {
	put(t, p.dial(t, "ab"), "c1/x", []byte("x"))
	if got := names(t, p.dial(t, "a"), ""); len(got) > 0 {
		t.Errorf("of another prefix %v is seen", got)
	}
}

func nowhere(t *testing.T, p place) {
	s := p.nowhere(t)
	var words *Error
	err := s.Put(t.Context(), "c1/x", strings.NewReader("x"))
	if !errors.Is(err, ErrNoPlace) || !errors.As(err, &words) || words.Hint() == "" {
		t.Errorf("put: %v", err)
	}
	var last error
	for _, err := range s.List(t.Context(), "") {
		last = err
	}
	if !errors.Is(last, ErrNoPlace) {
		t.Errorf("it is listed as if it were empty: %v", last)
	}
	for _, err := range []error{err, last} {
		if p.secret != "" && strings.Contains(err.Error()+words.Hint(), p.secret) {
			t.Errorf("an error shows the credential: %v", err)
		}
	}
}
