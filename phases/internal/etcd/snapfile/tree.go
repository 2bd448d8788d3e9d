package snapfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// Of pages in one bucket: in a real tree every branch page has at least two children.
	maxDepth   = 32
	maxNesting = 8       // of buckets in buckets: etcd nests none
	maxBranch  = 1 << 16 // bytes of a branch page in memory
)

// visitor gets the contents of a bucket, in the order of its keys.
type visitor struct {
	entry func(*entry) error
	// The visitor of a nested bucket; nil skips it.
	bucket func(name []byte, b bucket) (*visitor, error)
}

// entry is one key and value. Its key is valid until the window is used.
type entry struct {
	key    []byte
	off    int64 // of the key in the file; the value follows it
	size   int64 // bytes of the value
	window *window
}

func (e *entry) value() (off, size int64) { return e.off + int64(len(e.key)), e.size }

// bucket says where a bucket's pages are.
type bucket struct {
	root   uint64 // page; 0: the only page is inline, in the value that describes the bucket
	inline page
}

// page is a page, with its overflow pages, or a page inline in a value.
type page struct {
	id, off, size int64
	flags, count  uint16
}

// walker goes through all pages of buckets in key order and finds what bbolt would trip over.
type walker struct {
	ctx     context.Context
	db      io.ReaderAt
	meta    meta
	reached bitmap // pages
	levels  [maxNesting]*level
	read    func(off, bytes int64) // called for each page
	opened  int
	// strict demands that each page begins with the key that its parent has for it, which bbolt
	// relies on when it writes. A page of another moment, in a file that was copied while etcd
	// wrote, mostly begins otherwise.
	strict  bool
	visited *Bad // the first that a visitor found; bad pages take precedence over bad records
}

// level is the state of walking one bucket; the buckets around it have their own.
type level struct {
	leaf     pageWindows
	branches [maxDepth]*branch
	last     []byte // key seen last
	begun    bool
	nesting  int
}

type branch struct {
	pageWindows
	lo, hi []byte
}

// pageWindows are two windows on one page: for the table of elements, and for the keys and values
// after it. For a page that fits, they are the same.
type pageWindows struct{ first, second window }

func (p *pageWindows) on(w *walker, pg page, most int) (table, data *window, err error) {
	p.first.src, p.first.limit, p.first.max = w.db, w.limit(), most
	if pg.size <= int64(most) {
		_, err = p.first.at(pg.off, int(pg.size)) // the whole page at once
		return &p.first, &p.first, err
	}
	p.second.src, p.second.limit, p.second.max = w.db, w.limit(), most
	return &p.first, &p.second, nil
}

func newWalker(ctx context.Context, db io.ReaderAt, m meta, read func(off, bytes int64)) *walker {
	return &walker{ctx: ctx, db: db, meta: m, reached: newBitmap(m.pages), read: read}
}

func (w *walker) limit() int64 { return int64(w.meta.pages) * w.meta.pageSize }

// place names a page in a message.
func place(id uint64, off int64) string { return fmt.Sprintf("page %d at offset %d: ", id, off) }

func (p page) bad(format string, args ...any) error {
	b := bad(CheckStructure, p.off, format, args...)
	b.Reason = place(uint64(p.id), p.off) + b.Reason
	return b
}

// walk goes through one bucket.
func (w *walker) walk(b bucket, nesting int, v *visitor) error {
	if nesting >= maxNesting {
		return bad(CheckStructure, 0, "buckets are nested more than %d deep", maxNesting)
	}
	if w.levels[nesting] == nil {
		w.levels[nesting] = &level{nesting: nesting}
	}
	l := w.levels[nesting]
	l.begun = false
	if b.root == 0 {
		return w.leafPage(l, b.inline, nil, nil, v)
	}
	return w.tree(l, b.root, 0, nil, nil, v)
}

// again goes through the key bucket on its own.
func (w *walker) again(b bucket, v *visitor) error {
	if err := w.walk(b, 1, v); err != nil {
		return err
	}
	return w.verdict()
}

// verdict returns what the visitors found, if all pages were good.
func (w *walker) verdict() error {
	if w.visited == nil {
		return nil
	}
	return w.visited
}

// visit passes an entry to a visitor, until one is bad.
func (w *walker) visit(v *visitor, e *entry) error {
	if w.visited != nil {
		return nil
	}
	err := v.entry(e)
	var b *Bad
	if errors.As(err, &b) {
		w.visited = b
		return nil
	}
	return err
}

// open reads a page's header, and marks the page and its overflow pages as reached.
func (w *walker) open(l *level, id uint64) (page, error) {
	if w.opened++; w.opened%64 == 0 && w.ctx.Err() != nil {
		return page{}, w.ctx.Err()
	}
	p := page{id: int64(id), off: int64(id) * w.meta.pageSize, size: w.meta.pageSize}
	if err := w.header(&l.leaf.first, &p); err != nil {
		return p, err
	}
	w.read(p.off, p.size)
	return p, nil
}

func (w *walker) header(win *window, p *page) error {
	win.src, win.limit, win.max = w.db, w.limit(), maxAhead
	h, err := win.at(p.off, pageHeader)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	own, overflow := le.Uint64(h), uint64(le.Uint32(h[12:]))
	p.flags, p.count = le.Uint16(h[8:]), le.Uint16(h[10:])
	if own != uint64(p.id) {
		return p.bad("it calls itself page %d", own)
	}
	if overflow >= w.meta.pages-uint64(p.id) {
		return p.bad("it goes on for %d pages, beyond the last, %d", overflow, w.meta.pages-1)
	}
	p.size += int64(overflow) * w.meta.pageSize
	for id := uint64(p.id); id <= uint64(p.id)+overflow; id++ {
		if !w.reached.set(id) {
			return p.bad("page %d is reached twice", id)
		}
	}
	return nil
}

// tree goes through the pages below one page. If given, lo and hi bound the keys: at
// least lo and below hi.
func (w *walker) tree(l *level, id uint64, depth int, lo, hi []byte, v *visitor) error {
	p, err := w.open(l, id)
	if err != nil {
		return err
	}
	switch {
	case p.flags == leafPage:
		return w.leafPage(l, p, lo, hi, v)
	case p.flags != branchPage:
		return p.bad("it is of type %#x, not a branch or leaf", p.flags)
	case depth == maxDepth-1:
		return p.bad("the tree is more than %d pages deep", maxDepth)
	case p.count == 0:
		return p.bad("a branch without children")
	case p.tableEnd() > p.size:
		return p.bad("%d elements do not fit into it", p.count)
	}
	return w.branchPage(l, p, depth, lo, hi, v)
}

func (p page) tableEnd() int64 { return pageHeader + elementSize*int64(p.count) }

func (w *walker) branchPage(l *level, p page, depth int, lo, hi []byte, v *visitor) error {
	if l.branches[depth] == nil {
		l.branches[depth] = &branch{}
	}
	b := l.branches[depth]
	table, data, err := b.on(w, p, maxBranch)
	if err != nil {
		return err
	}
	next := p.tableEnd()
	child, key, err := p.branchElement(table, data, 0, &next)
	if err != nil {
		return err
	}
	b.lo = append(b.lo[:0], key...)
	if lo != nil && bytes.Compare(b.lo, lo) < 0 {
		return p.bad("its first key %q is below %q, where its parent has it begin", short(b.lo), short(lo))
	}
	if err := w.beginsAt(p, b.lo, lo); err != nil {
		return err
	}
	for i := 0; i < int(p.count); i++ {
		following, end := uint64(0), hi
		if i+1 < int(p.count) {
			if following, key, err = p.branchElement(table, data, i+1, &next); err != nil {
				return err
			}
			b.hi = append(b.hi[:0], key...)
			end = b.hi
			if bytes.Compare(b.lo, b.hi) >= 0 {
				return p.bad("keys %d and %d are out of order", i, i+1)
			}
		}
		if hi != nil && bytes.Compare(b.lo, hi) >= 0 {
			return p.bad("key %d, %q, is not below %q, where its parent ends it", i, short(b.lo), short(hi))
		}
		if child < 2 || child >= w.meta.pages {
			return p.bad("element %d leads to page %d of %d", i, child, w.meta.pages)
		}
		if err := w.tree(l, child, depth+1, b.lo, end, v); err != nil {
			return err
		}
		child, b.lo, b.hi = following, b.hi, b.lo
	}
	return nil
}

// branchElement returns the child and the key of an element. bbolt writes keys without gaps, in
// order: next is where this one must begin.
func (p page) branchElement(table, data *window, i int, next *int64) (child uint64, key []byte, err error) {
	rel := pageHeader + elementSize*int64(i)
	e, err := table.at(p.off+rel, elementSize)
	if err != nil {
		return 0, nil, err
	}
	le := binary.LittleEndian
	pos, ksize, child := int64(le.Uint32(e)), int64(le.Uint32(e[4:])), le.Uint64(e[8:])
	if err := p.checkKey(i, rel+pos, ksize, ksize, next); err != nil {
		return 0, nil, err
	}
	key, err = data.at(p.off+rel+pos, int(ksize))
	return child, key, err
}

// checkKey checks where an element's data begins and how long it is, and moves next past it.
func (p page) checkKey(i int, start, ksize, size int64, next *int64) error {
	switch {
	case start != *next:
		return p.bad("element %d has its data at byte %d of the page, not at %d, where the one before ends",
			i, start, *next)
	case ksize == 0 || ksize > maxKeySize:
		return p.bad("element %d has a key of %d bytes", i, ksize)
	case start+size > p.size:
		return p.bad("element %d ends at byte %d of the page, which has %d", i, start+size, p.size)
	}
	*next = start + size
	return nil
}

func (w *walker) leafPage(l *level, p page, lo, hi []byte, v *visitor) error {
	if p.tableEnd() > p.size {
		return p.bad("%d elements do not fit into it", p.count)
	}
	table, data, err := l.leaf.on(w, p, maxAhead)
	if err != nil {
		return err
	}
	next, le := p.tableEnd(), binary.LittleEndian
	for i := 0; i < int(p.count); i++ {
		rel := pageHeader + elementSize*int64(i)
		b, err := table.at(p.off+rel, elementSize)
		if err != nil {
			return err
		}
		flags, ksize, vsize := le.Uint32(b), int64(le.Uint32(b[8:])), int64(le.Uint32(b[12:]))
		start := rel + int64(le.Uint32(b[4:]))
		if flags > 1 {
			return p.bad("element %d has the unknown flags %#x", i, flags)
		}
		if err := p.checkKey(i, start, ksize, ksize+vsize, &next); err != nil {
			return err
		}
		e := entry{off: p.off + start, size: vsize, window: data}
		if e.key, err = data.at(e.off, int(ksize)); err != nil {
			return err
		}
		if err := l.inOrder(p, i, e.key, lo, hi); err != nil {
			return err
		}
		if i == 0 {
			if err := w.beginsAt(p, e.key, lo); err != nil {
				return err
			}
		}
		switch {
		case flags == 1:
			err = w.nested(l, p, i, &e, v)
		case l.nesting == 0:
			err = p.bad("element %d of the root bucket is not a bucket", i)
		default:
			err = w.visit(v, &e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// beginsAt is for a strict walk.
func (w *walker) beginsAt(p page, key, lo []byte) error {
	if !w.strict || lo == nil || bytes.Equal(key, lo) {
		return nil
	}
	return p.bad("its first key is %q, and its parent has it begin with %q: the pages are not of one moment",
		short(key), short(lo))
}

// inOrder checks a leaf's key against the previous one in the bucket and the parent's bounds.
func (l *level) inOrder(p page, i int, key, lo, hi []byte) error {
	switch {
	case l.begun && bytes.Compare(key, l.last) <= 0:
		return p.bad("key %d, %q, is not above the one before it, %q", i, short(key), short(l.last))
	case i == 0 && lo != nil && bytes.Compare(key, lo) < 0:
		return p.bad("its first key %q is below %q, where its parent has it begin", short(key), short(lo))
	case hi != nil && bytes.Compare(key, hi) >= 0:
		return p.bad("key %d, %q, is not below %q, where its parent ends it", i, short(key), short(hi))
	}
	l.last, l.begun = append(l.last[:0], key...), true
	return nil
}

// nested goes through a bucket that a leaf element describes.
func (w *walker) nested(l *level, p page, i int, e *entry, v *visitor) error {
	off, size := e.value()
	name := bytes.Clone(e.key)
	if size < bucketHeader {
		return p.bad("element %d describes a bucket in %d bytes", i, size)
	}
	h, err := e.window.at(off, bucketHeader)
	if err != nil {
		return err
	}
	b := bucket{root: binary.LittleEndian.Uint64(h)}
	switch {
	case b.root == 0:
		if b.inline, err = w.inlinePage(e.window, p, i, off+bucketHeader, size-bucketHeader); err != nil {
			return err
		}
	case p.isInline():
		return p.bad("an inline bucket holds another bucket, %q", short(name))
	case size != bucketHeader:
		return p.bad("element %d describes a bucket in %d bytes", i, size)
	case b.root < 2 || b.root >= w.meta.pages:
		return p.bad("bucket %q begins on page %d of %d", short(name), b.root, w.meta.pages)
	}
	inside, err := v.bucket(name, b)
	var found *Bad
	if errors.As(err, &found) {
		if inside = anything(); w.visited == nil {
			w.visited = found
		}
	} else if err != nil || inside == nil {
		return err
	}
	return w.walk(b, l.nesting+1, inside)
}

// isInline recognizes a page in a value: those in the file begin at 2.
func (p page) isInline() bool { return p.id == 0 }

// inlinePage reads the header of the page in a small bucket's description. The page must be
// a leaf, and the value must have room for its header.
func (w *walker) inlinePage(win *window, p page, i int, off, size int64) (page, error) {
	if p.isInline() {
		return page{}, p.bad("an inline bucket holds another bucket")
	}
	if size < pageHeader {
		return page{}, p.bad("element %d describes an inline bucket in %d bytes", i, bucketHeader+size)
	}
	h, err := win.at(off, pageHeader)
	if err != nil {
		return page{}, err
	}
	le := binary.LittleEndian
	in := page{off: off, size: size, flags: le.Uint16(h[8:]), count: le.Uint16(h[10:])}
	if le.Uint64(h) != 0 || in.flags != leafPage || le.Uint32(h[12:]) != 0 {
		return page{}, p.bad("element %d describes an inline bucket whose page is no leaf", i)
	}
	return in, nil
}

// short keeps a key readable in a message.
func short(key []byte) []byte { return key[:min(len(key), 40)] }
