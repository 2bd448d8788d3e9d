// Package damage spoils good etcd snapshots, one way at a time, for the tests of what reads them.
package damage

import (
	"bytes"
	"compress/gzip"
	"math/rand/v2"
	"slices"
)

// Case is one kind of damage.
type Case struct {
	Name  string
	Check string // that fails: length, trailer, meta, structure, keys
	// Make returns a damaged copy. good is a snapshot as etcd sends it, of 400 keys or
	// more and with members.
	Make func(good []byte) []byte
}

// Cases returns all kinds.
func Cases() []Case {
	return slices.Concat(whole(), metas(), pages(), elements(), freelists(), records())
}

// whole is damage to the file as such; the trailer is what it was.
func whole() []Case {
	cut := func(size func(good []byte) int) func([]byte) []byte {
		return func(good []byte) []byte { return bytes.Clone(good[:size(good)]) }
	}
	flip := func(where func(good []byte) int) func([]byte) []byte {
		return func(good []byte) []byte {
			b := bytes.Clone(good)
			b[where(b)] ^= 0x10
			return b
		}
	}
	return []Case{
		{"empty", "length", cut(func([]byte) int { return 0 })},
		{"one byte", "length", cut(func([]byte) int { return 1 })},
		{"only a trailer", "length", cut(func([]byte) int { return 32 })},
		{"cut in half", "length", cut(func(b []byte) int { return len(b)/2 | 1 })},
		{"cut in half at what looks like a trailer", "length", cut(func(b []byte) int { return len(b)/1024*512 + 32 })},
		{"cut after the first page", "length", cut(func(b []byte) int { return load(b).pageSize + 32 })},
		{"one byte short", "length", cut(func(b []byte) int { return len(b) - 1 })},
		{"without trailer", "length", cut(func(b []byte) int { return len(b) - 32 })},
		{"one page short", "length", func(b []byte) []byte {
			i := load(b)
			i.b = i.b[:len(i.b)-i.pageSize]
			return i.seal()
		}},
		{"one byte long", "length", func(b []byte) []byte { return append(bytes.Clone(b), 0) }},
		{"gzip", "length", compressed},
		{"a bit flipped in the data", "trailer", flip(func(b []byte) int { return len(b) * 2 / 3 })},
		{"a bit flipped in the first meta page", "trailer", flip(func([]byte) int { return 50 })},
		{"a bit flipped in the second meta page", "trailer", flip(func(b []byte) int { return load(b).pageSize + 50 })},
		{"a bit flipped in the trailer", "trailer", flip(func(b []byte) int { return len(b) - 7 })},
		{"another snapshot's trailer", "trailer", func(b []byte) []byte {
			return append(load(b).b, make([]byte, 32)...)
		}},
		{"zeros", "trailer", func(b []byte) []byte { return make([]byte, len(b)) }},
		{"random bytes", "trailer", random},
		{"two pages exchanged", "trailer", func(b []byte) []byte {
			i := load(b)
			p, q := i.b[2*i.pageSize:3*i.pageSize], i.b[len(i.b)-i.pageSize:]
			old := bytes.Clone(p)
			copy(p, q)
			copy(q, old)
			return append(i.b, b[len(b)-32:]...)
		}},
	}
}

func compressed(good []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(good)
	w.Close()
	if b.Len()%512 == 32 {
		b.WriteByte(0)
	}
	return b.Bytes()
}

func random(good []byte) []byte {
	b, source := make([]byte, len(good)), rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(source.Uint32())
	}
	return b
}

// sealed is a case whose trailer is right: damage that was there when the snapshot was taken.
func sealed(name, check string, change func(i *image)) Case {
	return Case{name + ", under a valid trailer", check, func(good []byte) []byte {
		i := load(good)
		change(i)
		return i.seal()
	}}
}

func metas() []Case {
	metas := func(name, check string, change func(m []byte)) Case {
		return sealed(name, check, func(i *image) { i.metas(change) })
	}
	return []Case{
		sealed("random bytes", "meta", func(i *image) { i.b = random(i.b) }),
		sealed("zeros", "meta", func(i *image) { clear(i.b) }),
		sealed("first meta page wiped", "meta", func(i *image) { clear(i.b[:i.pageSize]) }),
		sealed("second meta page wiped", "meta", func(i *image) { clear(i.b[i.pageSize : 2*i.pageSize]) }),
		sealed("checksum of the second meta page", "meta", func(i *image) { i.b[i.pageSize+16+60]++ }),
		sealed("meta page of another type", "meta", func(i *image) { i.b[8] = 2 }),
		metas("magic number", "meta", func(m []byte) { m[0]++ }),
		metas("format version", "meta", func(m []byte) { m[4]++ }),
		metas("page size of zero", "meta", func(m []byte) { le.PutUint32(m[8:], 0) }),
		metas("page size of no power of two", "meta", func(m []byte) { le.PutUint32(m[8:], 5000) }),
		metas("page size of 4 GiB", "meta", func(m []byte) { le.PutUint32(m[8:], 1<<31) }),
		sealed("meta pages of different page sizes", "meta", func(i *image) {
			i.meta(1, func(m []byte) { le.PutUint32(m[8:], 2048*uint32(i.pageSize)/1024) })
		}),
		metas("root bucket beyond the end", "meta", func(m []byte) { le.PutUint64(m[16:], 1<<40) }),
		metas("root bucket on a meta page", "meta", func(m []byte) { le.PutUint64(m[16:], 1) }),
		metas("freelist beyond the end", "meta", func(m []byte) { le.PutUint64(m[32:], 1<<62) }),
		metas("more pages than the file", "length", func(m []byte) { le.PutUint64(m[40:], 1<<63) }),
		metas("a freelist that is no freelist", "structure", func(m []byte) { copy(m[32:40], m[16:24]) }),
	}
}

func pages() []Case {
	leaf := func(name string, change func(p page)) Case {
		return sealed(name, "structure", func(i *image) { change(i.leaf()) })
	}
	branch := func(name string, change func(p page)) Case {
		return sealed(name, "structure", func(i *image) { change(i.keys()) })
	}
	return []Case{
		leaf("leaf without a type", func(p page) { le.PutUint16(p.b[8:], 0) }),
		leaf("leaf that calls itself a branch", func(p page) { le.PutUint16(p.b[8:], 1) }),
		leaf("leaf of two types", func(p page) { le.PutUint16(p.b[8:], 3) }),
		leaf("leaf that calls itself a freelist", func(p page) { le.PutUint16(p.b[8:], 0x10) }),
		leaf("leaf with another's id", func(p page) { le.PutUint64(p.b, p.id+1) }),
		leaf("leaf with overflow beyond the end", func(p page) { le.PutUint32(p.b[12:], 0xffffffff) }),
		sealed("leaf whose overflow takes its neighbours", "structure", func(i *image) {
			p, next := i.leafBeforeAnother()
			le.PutUint32(p.b[12:], uint32(next-p.id))
		}),
		leaf("leaf with 65,535 elements", func(p page) { le.PutUint16(p.b[10:], 0xffff) }),
		leaf("leaf wiped", func(p page) { clear(p.b) }),
		branch("branch without children", func(p page) { le.PutUint16(p.b[10:], 0) }),
		branch("branch with 65,535 children", func(p page) { le.PutUint16(p.b[10:], 0xffff) }),
		branch("child beyond the end", func(p page) { le.PutUint64(p.element(1)[8:], 1<<50) }),
		branch("child that is a meta page", func(p page) { le.PutUint64(p.element(1)[8:], 0) }),
		branch("child that is its parent", func(p page) { le.PutUint64(p.element(1)[8:], p.id) }),
		branch("child that two elements share", func(p page) { le.PutUint64(p.element(1)[8:], p.child(0)) }),
		branch("children exchanged", func(p page) {
			first, second := p.child(0), p.child(1)
			le.PutUint64(p.element(0)[8:], second)
			le.PutUint64(p.element(1)[8:], first)
		}),
		branch("branch key of another range", func(p page) {
			e := p.element(1)
			copy(p.b[16+16+le.Uint32(e):][:4], "\xff\xff\xff\xff")
		}),
	}
}

func elements() []Case {
	leaf := func(name string, change func(p page)) Case {
		return sealed(name, "structure", func(i *image) { change(i.leaf()) })
	}
	inBucket := func(name string, change func(e, value []byte)) Case {
		return sealed(name, "structure", func(i *image) {
			n, value := i.bucket("key")
			change(i.root().element(n), value)
		})
	}
	return []Case{
		leaf("element with unknown flags", func(p page) { le.PutUint32(p.element(1), 0x40) }),
		leaf("element that begins beyond its page", func(p page) { le.PutUint32(p.element(1)[4:], 0xfffffff0) }),
		leaf("elements that overlap", func(p page) { le.PutUint32(p.element(1)[4:], le.Uint32(p.element(0)[4:])-16) }),
		leaf("element without a key", func(p page) { le.PutUint32(p.element(0)[8:], 0) }),
		leaf("element with a key of 4 GiB", func(p page) { le.PutUint32(p.element(0)[8:], 0xffffffff) }),
		leaf("element with a value of 4 GiB", func(p page) { le.PutUint32(p.element(0)[12:], 0xffffffff) }),
		leaf("element with its value cut", func(p page) {
			e := p.element(0)
			le.PutUint32(e[12:], le.Uint32(e[12:])-1)
		}),
		leaf("keys out of order", func(p page) {
			first, _ := p.entry(0)
			second, _ := p.entry(1)
			old := bytes.Clone(first)
			copy(first, second)
			copy(second, old)
		}),
		leaf("key twice", func(p page) {
			first, _ := p.entry(0)
			second, _ := p.entry(1)
			copy(second, first)
		}),
		leaf("key and value that call themselves a bucket", func(p page) {
			_, value := p.entry(0)
			le.PutUint32(p.element(0), 1)
			copy(value, bytes.Repeat([]byte{0xee}, 16))
		}),
		inBucket("bucket that calls itself a value", func(e, _ []byte) { le.PutUint32(e, 0) }),
		inBucket("bucket beyond the end", func(_, value []byte) { le.PutUint64(value, 1<<44) }),
		inBucket("bucket that should be inline and is not", func(_, value []byte) { le.PutUint64(value, 0) }),
		sealed("bucket that is the root bucket", "structure", func(i *image) {
			_, value := i.bucket("key")
			le.PutUint64(value, i.root().id)
		}),
	}
}

func freelists() []Case {
	listed := func(name string, change func(i *image, ids []uint64) []uint64) Case {
		return sealed(name, "structure", func(i *image) { i.freelist(false, change) })
	}
	return []Case{
		listed("page in use that is listed as free", func(i *image, ids []uint64) []uint64 {
			ids = append(ids, i.leaf().id)
			slices.Sort(ids)
			return ids
		}),
		listed("page beyond the end that is listed as free", func(_ *image, ids []uint64) []uint64 {
			return append(ids, 1<<45)
		}),
		listed("meta page that is listed as free", func(_ *image, ids []uint64) []uint64 {
			return slices.Insert(ids, 0, 1)
		}),
		listed("page that is listed twice as free", func(_ *image, ids []uint64) []uint64 {
			return slices.Insert(ids, 0, ids[0])
		}),
		listed("freelist out of order", func(_ *image, ids []uint64) []uint64 { slices.Reverse(ids); return ids }),
		listed("page neither in use nor free", func(_ *image, ids []uint64) []uint64 { return ids[1:] }),
		sealed("freelist of more pages than it holds", "structure", func(i *image) {
			p := i.freelist(true, nil)
			le.PutUint64(p.b[16:], 1<<60)
		}),
	}
}

// records is damage that bbolt cannot see: pages are in order, what etcd put into them is not.
func records() []Case {
	last := func(name string, change func(key, value []byte)) Case {
		return sealed(name, "keys", func(i *image) { change(i.lastEntry()) })
	}
	put := func(name string, change func(value []byte)) Case {
		return sealed(name, "keys", func(i *image) { _, value := i.lastPut(); change(value) })
	}
	return []Case{
		last("revision without separator", func(key, _ []byte) { key[8] = '-' }),
		last("negative revision", func(key, _ []byte) { key[0] = 0x80 }),
		last("negative second half of a revision", func(key, _ []byte) { key[9] = 0x80 }),
		put("value of another revision", func(value []byte) {
			at := 2 + int(value[1]) // behind the key, which is shorter than 128 bytes
			at += bytes.IndexByte(value[at:], 0x18)
			value[at+1] ^= 1
		}),
		put("value of ones", func(value []byte) { copy(value, bytes.Repeat([]byte{0xff}, len(value))) }),
		put("value of zeros", func(value []byte) { clear(value) }),
		put("value whose key is longer than itself", func(value []byte) {
			value[1] = 0x7f
			value[2] = 0xff
			value[3] = 0xff
		}),
		sealed("member that is no JSON", "keys", func(i *image) {
			for n := range i.b { // every copy, since old ones lie in free pages
				if bytes.HasPrefix(i.b[n:], []byte(`{"id":`)) {
					i.b[n] = '!'
				}
			}
		}),
		sealed("no key bucket", "keys", func(i *image) {
			n, _ := i.bucket("key")
			name, _ := i.root().entry(n)
			copy(name, "kex")
		}),
		sealed("no meta bucket", "keys", func(i *image) {
			n, _ := i.bucket("meta")
			name, _ := i.root().entry(n)
			copy(name, "metz")
		}),
	}
}
