package snapfile

import (
	"hash/crc32"
	"math/bits"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// joiner makes the CRC of two concatenated pieces from their CRCs, so that data can be read before
// it is known whether etcd's hash includes it.
//
// A CRC is linear: appended zeros change the CRC by a linear map of 32 bits. step[k] is
// that map for 2^k bytes, as a table for each byte of the CRC.
type joiner struct{ step [40][4][256]uint32 }

func newJoiner() *joiner {
	j := new(joiner)
	var zero [32]uint32 // where the map of one zero bit sends each bit
	zero[0] = crc32.Castagnoli
	for i := 1; i < 32; i++ {
		zero[i] = 1 << (i - 1)
	}
	for range 3 { // a byte is 2^3 bits
		zero = twice(zero)
	}
	for k := range j.step {
		for n := range 4 {
			for b := range 256 {
				j.step[k][n][b] = send(&zero, uint32(b)<<(8*n))
			}
		}
		zero = twice(zero)
	}
	return j
}

func send(m *[32]uint32, v uint32) (sum uint32) {
	for ; v != 0; v &= v - 1 {
		sum ^= m[bits.TrailingZeros32(v)]
	}
	return sum
}

func twice(m [32]uint32) (square [32]uint32) {
	for i := range m {
		square[i] = send(&m, m[i])
	}
	return square
}

// append returns the CRC of data with the CRC a, followed by size bytes with the CRC b.
func (j *joiner) append(a, b uint32, size int64) uint32 {
	for n := uint64(size); n != 0; n &= n - 1 {
		t := &j.step[bits.TrailingZeros64(n)]
		a = t[0][byte(a)] ^ t[1][byte(a>>8)] ^ t[2][byte(a>>16)] ^ t[3][byte(a>>24)]
	}
	return a ^ b
}
