package damage

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"slices"
)

var le = binary.LittleEndian

// image is a good snapshot taken apart, trusting it. Offsets are in bytes from
// the start of the file.
type image struct {
	b        []byte // the database, without trailer
	pageSize int
}

func load(good []byte) *image {
	b := bytes.Clone(good[:len(good)-sha256.Size])
	return &image{b: b, pageSize: int(le.Uint32(b[24:]))}
}

// seal puts a right trailer behind whatever the database has become.
func (i *image) seal() []byte {
	sum := sha256.Sum256(i.b)
	return append(i.b, sum[:]...)
}

// metas changes both meta pages, and puts their checksums right.
func (i *image) metas(change func(meta []byte)) {
	i.meta(0, change)
	i.meta(1, change)
}

func (i *image) meta(id int, change func(meta []byte)) {
	m := i.b[id*i.pageSize+16 : id*i.pageSize+80]
	change(m)
	sum := fnv.New64a()
	sum.Write(m[:56])
	le.PutUint64(m[56:], sum.Sum64())
}

// page returns a page with its overflow pages.
func (i *image) page(id uint64) page {
	b := i.b[int(id)*i.pageSize:]
	return page{id: id, b: b[:(int(le.Uint32(b[12:]))+1)*i.pageSize]}
}

type page struct {
	id uint64
	b  []byte // the page itself: writing to it changes the image
}

func (p page) isBranch() bool       { return le.Uint16(p.b[8:]) == 1 }
func (p page) count() int           { return int(le.Uint16(p.b[10:])) }
func (p page) element(n int) []byte { return p.b[16+16*n : 32+16*n] }

func (p page) child(n int) uint64 { return le.Uint64(p.element(n)[8:]) }

// entry returns the key and value of a leaf's element.
func (p page) entry(n int) (key, value []byte) {
	e := p.element(n)
	start := 16 + 16*n + int(le.Uint32(e[4:]))
	ksize, vsize := int(le.Uint32(e[8:])), int(le.Uint32(e[12:]))
	return p.b[start : start+ksize], p.b[start+ksize : start+ksize+vsize]
}

// root is the page of the root bucket: one leaf in every etcd database.
func (i *image) root() page { return i.page(le.Uint64(i.b[32:])) }

// bucket returns the element of the root bucket that describes a bucket, and the description.
func (i *image) bucket(name string) (n int, value []byte) {
	root := i.root()
	for n := range root.count() {
		if key, value := root.entry(n); string(key) == name {
			return n, value
		}
	}
	panic("the snapshot has no bucket " + name)
}

// keys is the root page of the key bucket, a branch in any snapshot of some hundred keys.
func (i *image) keys() page {
	_, value := i.bucket("key")
	return i.page(le.Uint64(value))
}

// leaf is the first leaf of the key bucket with two entries or more.
func (i *image) leaf() page {
	for _, p := range i.leaves(i.keys()) {
		if p.count() >= 2 {
			return p
		}
	}
	panic("the snapshot has no leaf with two entries")
}

// leafBeforeAnother is a leaf of the key bucket, and the next page in use that follows it. Pages
// between the two are free: which ones are depends on when etcd has committed.
func (i *image) leafBeforeAnother() (p page, next uint64) {
	used := i.inUse(le.Uint64(i.b[32:]))
	slices.Sort(used)
	for _, p := range i.leaves(i.keys()) {
		end := p.id + uint64(len(p.b)/i.pageSize)
		if at, _ := slices.BinarySearch(used, end); at < len(used) {
			return p, used[at]
		}
	}
	panic("the snapshot has no leaf with a page in use behind it")
}

func (i *image) leaves(p page) []page {
	if !p.isBranch() {
		return []page{p}
	}
	var all []page
	for n := range p.count() {
		all = append(all, i.leaves(i.page(p.child(n)))...)
	}
	return all
}

// lastEntry is the newest of the key bucket: no key follows it, so that changing its
// revision breaks no order.
func (i *image) lastEntry() (key, value []byte) {
	all := i.leaves(i.keys())
	last := all[len(all)-1]
	return last.entry(last.count() - 1)
}

// lastPut is the newest entry that is no deletion.
func (i *image) lastPut() (key, value []byte) {
	all := i.leaves(i.keys())
	for _, p := range slices.Backward(all) {
		for n := p.count() - 1; n >= 0; n-- {
			if key, value := p.entry(n); len(key) == 17 {
				return key, value
			}
		}
	}
	panic("the snapshot has no key")
}

// inUse returns all pages that a page leads to, itself included.
func (i *image) inUse(id uint64) []uint64 {
	p := i.page(id)
	var ids []uint64
	for n := range len(p.b) / i.pageSize {
		ids = append(ids, id+uint64(n))
	}
	for n := range p.count() {
		if p.isBranch() {
			ids = append(ids, i.inUse(p.child(n))...)
		} else if _, value := p.entry(n); le.Uint32(p.element(n)) == 1 && le.Uint64(value) != 0 {
			ids = append(ids, i.inUse(le.Uint64(value))...)
		}
	}
	return ids
}

// freelist adds what etcd leaves out of its databases but bbolt by itself writes: a
// page, and as many more as it needs, that lists the free pages. At least two are free.
// change may spoil the list.
func (i *image) freelist(long bool, change func(i *image, ids []uint64) []uint64) page {
	free := make([]uint64, 0)
	used := i.inUse(le.Uint64(i.b[32:]))
	slices.Sort(used)
	i.b = append(i.b, make([]byte, 2*i.pageSize)...)
	pages := uint64(len(i.b) / i.pageSize)
	for id := uint64(2); id < pages; id++ {
		if _, ok := slices.BinarySearch(used, id); !ok {
			free = append(free, id)
		}
	}
	if change != nil {
		free = change(i, free)
	}
	list := make([]byte, 16, 24+8*len(free))
	le.PutUint64(list, pages)
	le.PutUint16(list[8:], 0x10)
	if le.PutUint16(list[10:], uint16(len(free))); long {
		le.PutUint16(list[10:], 0xffff)
		list = le.AppendUint64(list, uint64(len(free)))
	}
	for _, id := range free {
		list = le.AppendUint64(list, id)
	}
	more := (len(list) - 1) / i.pageSize
	le.PutUint32(list[12:], uint32(more))
	i.b = append(i.b, append(list, make([]byte, (more+1)*i.pageSize-len(list))...)...)
	i.metas(func(m []byte) {
		le.PutUint64(m[32:], pages)
		le.PutUint64(m[40:], uint64(len(i.b)/i.pageSize))
	})
	return i.page(pages)
}

// WithFreelist returns a good snapshot with a freelist, its count in the header or, as bbolt does
// from 65,535 on, before the list.
func WithFreelist(good []byte, long bool) []byte {
	i := load(good)
	i.freelist(long, nil)
	return i.seal()
}
