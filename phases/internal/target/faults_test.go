package target

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// pass passes bytes on both ways, and ends both connections after so many from the first.
func pass(from, to net.Conn, after int64) {
	go func() { _, _ = io.Copy(from, to); from.Close() }()
	_, _ = io.CopyN(to, from, after)
	from.Close()
	to.Close()
}

// What was sent over a connection that was cut off anywhere has no name, and the next write of the
// same name ends well.
func TestASFTPConnectionCutAnywhereLeavesNoName(t *testing.T) {
	m := startSFTP(t)
	data := random(3, 200_000)
	cut := 0
	for after := int64(500); after < 260_000; after += 11_111 {
		broken := m.cutting(t, after)
		s, err := broken.dial(t, m.dir, "?known-hosts="+broken.known+"&key="+m.key)
		if err == nil {
			err = s.Put(t.Context(), "c1/cut", strings.NewReader(string(data)))
		}
		if err != nil {
			cut++
		}
		if err != nil && strings.Contains(err.Error(), "EOF") {
			t.Errorf("cut after %d: nobody understands %v", after, err)
		}
		whole, dialled := m.dial(t, m.dir, "?known-hosts="+m.known+"&key="+m.key)
		if dialled != nil {
			t.Fatal(dialled)
		}
		switch got := names(t, whole, ""); {
		case len(got) == 0 && err == nil:
			t.Fatalf("cut after %d: it was reported as written, and is not there", after)
		case len(got) > 0:
			if string(read(t, whole, "c1/cut")) != string(data) {
				t.Fatalf("cut after %d: half of it has its name", after)
			}
			if err := whole.Delete(t.Context(), "c1/cut"); err != nil {
				t.Fatal(err)
			}
		}
		if err := whole.Sweep(t.Context(), "c1/", time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if left := hiddenBelow(t, m.dir); len(left) > 0 {
			t.Fatalf("cut after %d: left is %v", after, left)
		}
		put(t, whole, "c1/cut", data)
		if err := errors.Join(whole.Delete(t.Context(), "c1/cut"), whole.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if cut < 10 {
		t.Errorf("only %d were cut off", cut)
	}
}
