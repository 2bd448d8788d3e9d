package etcd

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

func TestASpoolHandsOnAllThatIsWrittenInLargePieces(t *testing.T) {
	random := rand.NewChaCha8([32]byte{7})
	for _, size := range []int{0, 1, pieceSize - 1, pieceSize, 5*pieceSize + 17} {
		data := make([]byte, size)
		_, _ = random.Read(data)
		var got []byte
		taken := 0
		s := newSpool(func(b []byte) error {
			got = append(got, b...)
			taken++
			return nil
		})
		for rest := data; len(rest) > 0; {
			n := min(40_000, len(rest))
			if err := s.write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := s.finish(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, data) || taken != size/pieceSize+1 {
			t.Errorf("%d bytes: got %d, in %d pieces", size, len(got), taken)
		}
	}
}

func TestASpoolStopsWhoeverWritesWhenAPieceFails(t *testing.T) {
	full := errors.New("no space left on device")
	taken := 0
	s := newSpool(func([]byte) error {
		if taken++; taken == 2 {
			return full
		}
		return nil
	})
	written := 0
	var err error
	for ; err == nil && written < 100; written++ {
		err = s.write(make([]byte, pieceSize))
	}
	if !errors.Is(err, full) || written > 2+pieces {
		t.Errorf("after %d pieces: %v", written, err)
	}
	if err := s.finish(); !errors.Is(err, full) || taken != 2 {
		t.Errorf("%d pieces, then: %v", taken, err)
	}
}
