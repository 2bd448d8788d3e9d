package etcd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// Where bbolt keeps what a commit changes, in a meta page and from its start, 16 bytes into the
// page (bbolt internal/common: meta.go).
const (
	metaAt       = 16
	metaPageSize = 8 // 4 bytes; all others have 8
	metaPages    = 40
	metaTxID     = 48
	metaSum      = 56
	metaLength   = 64
)

// levelMetaPages makes both meta pages of a db describe the same state, as in a snapshot from etcd,
// and returns the length in use; the file may be longer. Each bbolt commit writes only one of them.
// bbolt itself could do it with two empty commits, but reads all pages when it opens a file, in a
// goroutine whose panics nobody can catch.
func levelMetaPages(path string) (int64, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	size, err := level(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("cannot level the meta pages of the copy of the db: %w", err)
	}
	return size, nil
}

func level(f *os.File) (int64, error) {
	newest, pageSize, err := newestMeta(f)
	if err != nil {
		return 0, err
	}
	for id := range int64(2) {
		page := make([]byte, metaAt+metaLength)
		binary.LittleEndian.PutUint64(page, uint64(id))
		page[8] = 4 // its type
		m := page[metaAt:]
		copy(m, newest)
		// As bbolt does in a snapshot: the second is of the transaction before.
		binary.LittleEndian.PutUint64(m[metaTxID:], binary.LittleEndian.Uint64(newest[metaTxID:])-uint64(id))
		binary.LittleEndian.PutUint64(m[metaSum:], metaSumOf(m))
		if _, err := f.WriteAt(page, id*pageSize); err != nil {
			return 0, err
		}
	}
	return int64(binary.LittleEndian.Uint64(newest[metaPages:])) * pageSize, nil
}

// newestMeta returns the meta page of the last commit that was finished. The file was proven: the
// other page is at the place that its page size gives, or torn.
func newestMeta(f *os.File) (newest []byte, pageSize int64, err error) {
	first, err := metaOf(f, 0)
	if err != nil {
		return nil, 0, err
	}
	sizes := []int64{}
	if first != nil {
		sizes = append(sizes, int64(binary.LittleEndian.Uint32(first[metaPageSize:])))
	} else {
		for size := int64(1 << 10); size <= 1<<24; size *= 2 {
			sizes = append(sizes, size)
		}
	}
	for _, size := range sizes {
		second, err := metaOf(f, size)
		if err != nil {
			return nil, 0, err
		}
		if second != nil && int64(binary.LittleEndian.Uint32(second[metaPageSize:])) == size && (first == nil ||
			binary.LittleEndian.Uint64(second[metaTxID:]) > binary.LittleEndian.Uint64(first[metaTxID:])) {
			return second, size, nil
		}
	}
	if first == nil {
		return nil, 0, errors.New("none of them is intact")
	}
	return first, sizes[0], nil
}

// metaOf returns the meta page at an offset; nil if it is torn.
func metaOf(f *os.File, at int64) ([]byte, error) {
	m := make([]byte, metaLength)
	if _, err := f.ReadAt(m, at+metaAt); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if metaSumOf(m) != binary.LittleEndian.Uint64(m[metaSum:]) {
		return nil, nil
	}
	return m, nil
}

func metaSumOf(m []byte) uint64 {
	sum := fnv.New64a()
	sum.Write(m[:metaSum])
	return sum.Sum64()
}
