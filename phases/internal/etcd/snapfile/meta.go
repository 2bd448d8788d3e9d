package snapfile

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
)

// bbolt's page types, and the sizes of its records on disk (bbolt internal/common: page.go,
// meta.go, bucket.go), little endian on every platform that etcd supports.
const (
	branchPage   = 0x01
	leafPage     = 0x02
	metaPage     = 0x04
	freelistPage = 0x10

	pageHeader   = 16 // id 8, flags 2, count 2, overflow 4
	elementSize  = 16 // branch: pos 4, ksize 4, pgid 8; leaf: flags 4, pos 4, ksize 4, vsize 4
	bucketHeader = 16 // root 8, sequence 8
	// Magic 4, version 4, page size 4, flags 4, root 8, sequence 8, freelist 8, pgid
	// 8, txid 8, checksum 8.
	metaSize = 64

	magic      = 0xED0CDAED
	version    = 2
	noFreelist = ^uint64(0) // etcd does not write the freelist to disk (backend config_linux.go)

	minPageSize = 1 << 10 // the range in which bbolt looks for the second meta page
	maxPageSize = 1 << 24
	maxKeySize  = 32768 // bbolt MaxKeySize
)

// meta is one meta page: the state of the database after one transaction.
type meta struct {
	pageSize int64
	root     uint64 // page of the root bucket
	freelist uint64 // page, or noFreelist
	pages    uint64 // all page ids are below it
	txid     uint64
}

// metas reads both meta pages and returns the newer. In a snapshot both are good: bbolt's
// Tx.WriteTo writes them anew, the first for the transaction that it copies, the second for the one
// before with the same contents. A raw database may have one that a crash tore.
func metas(f *file, raw bool) (meta, error) {
	first, torn, err := readMeta(f, 0, 0)
	if torn && raw {
		return secondMeta(f, err)
	} else if err != nil {
		return meta{}, err
	}
	second, torn, err := readMeta(f, 1, first.pageSize)
	if torn && raw {
		return first, nil
	} else if err != nil {
		return meta{}, err
	}
	if second.txid > first.txid {
		return second, nil
	}
	return first, nil
}

// secondMeta looks for the second meta page at every possible page size.
func secondMeta(f *file, why error) (meta, error) {
	for size := int64(minPageSize); size <= maxPageSize && size+pageHeader+metaSize <= f.dbSize; size *= 2 {
		if m, torn, err := readMeta(f, 1, size); !torn {
			return m, err
		}
	}
	return meta{}, why
}

func isBad(err error) bool {
	var b *Bad
	return errors.As(err, &b)
}

// readMeta reads the meta page with an id, at the offset that a page size gives. torn is a
// page that bbolt skips if the other is good (Meta.Validate); if the checksum is right, bbolt
// relies on everything else.
func readMeta(f *file, id uint64, pageSize int64) (m meta, torn bool, err error) {
	at := int64(id) * pageSize
	wrong := func(check, format string, args ...any) error {
		b := bad(check, at, format, args...)
		b.Reason = place(id, at) + b.Reason
		return b
	}
	var b [pageHeader + metaSize]byte
	if at+int64(len(b)) > f.dbSize {
		return m, true, wrong(CheckMeta, "it is beyond the end of the file")
	}
	if n, err := f.ReadAt(b[:], at); n < len(b) {
		return m, false, readError(f, at, err)
	}
	le, p := binary.LittleEndian, b[pageHeader:]
	m = meta{
		pageSize: int64(le.Uint32(p[8:])), root: le.Uint64(p[16:]), freelist: le.Uint64(p[32:]),
		pages: le.Uint64(p[40:]), txid: le.Uint64(p[48:]),
	}
	sum := fnv.New64a()
	sum.Write(p[:56])
	switch {
	case le.Uint32(p) != magic:
		return m, true, wrong(CheckMeta, "it does not begin with bbolt's magic number: this is not an etcd database")
	case le.Uint32(p[4:]) != version:
		return m, true, wrong(CheckMeta, "format version %d, not %d", le.Uint32(p[4:]), version)
	case le.Uint64(p[56:]) != sum.Sum64():
		return m, true, wrong(CheckMeta, "its checksum is wrong")
	case le.Uint64(b[:]) != id || le.Uint16(b[8:]) != metaPage:
		err = wrong(CheckMeta, "it calls itself page %d of type %#x", le.Uint64(b[:]), le.Uint16(b[8:]))
	case m.pageSize < minPageSize || m.pageSize > maxPageSize || m.pageSize&(m.pageSize-1) != 0:
		err = wrong(CheckMeta, "a page size of %d bytes", m.pageSize)
	case id == 1 && m.pageSize != pageSize:
		err = wrong(CheckMeta, "a page size of %d bytes, where it lies at %d", m.pageSize, pageSize)
	case m.pages > uint64(f.dbSize/m.pageSize):
		err = wrong(CheckLength, "%d pages of %d bytes are in use, but the database has %d bytes: it was truncated",
			m.pages, m.pageSize, f.dbSize)
	case m.root < 2 || m.root >= m.pages:
		err = wrong(CheckMeta, "the root bucket is on page %d of %d", m.root, m.pages)
	case m.freelist != noFreelist && (m.freelist < 2 || m.freelist >= m.pages):
		err = wrong(CheckMeta, "the freelist is on page %d of %d", m.freelist, m.pages)
	}
	return m, false, err
}
