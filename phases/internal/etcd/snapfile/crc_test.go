package snapfile

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

func TestTheCRCOfTwoThingsIsMadeOfTheirs(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	j := newJoiner()
	for _, sizes := range [][2]int{{0, 0}, {0, 7}, {7, 0}, {3, 1}, {3, 18}, {1, 4096}, {70_000, 1<<20 + 77}} {
		whole := make([]byte, sizes[0]+sizes[1])
		for i := range whole {
			whole[i] = byte(random.Uint32())
		}
		a, b := crc32.Checksum(whole[:sizes[0]], castagnoli), crc32.Checksum(whole[sizes[0]:], castagnoli)
		if got, want := j.append(a, b, int64(sizes[1])), crc32.Checksum(whole, castagnoli); got != want {
			t.Errorf("%d and %d bytes: %08x, not %08x", sizes[0], sizes[1], got, want)
		}
	}
}
