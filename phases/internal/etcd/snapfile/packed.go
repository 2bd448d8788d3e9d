package snapfile

import "context"

// Packed is about how large etcd's defragmentation makes a database. It writes all entries of a
// bucket, in order, into new pages (etcd, server/storage/backend/backend.go: defragdb), which bbolt
// then fills as far as it is told to (bbolt, node.go: splitIndex). The database may be that of an
// etcd that runs: what is being written while it is read is read again.
func Packed(ctx context.Context, path string) (size int64, err error) {
	const tries = 5
	for range tries {
		if size, err = packed(ctx, path); err == nil || ctx.Err() != nil {
			return size, err
		}
	}
	return 0, err
}

func packed(ctx context.Context, path string) (int64, error) {
	f, err := open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	m, err := metas(f, true)
	if err != nil {
		return 0, err
	}
	var buckets []*packing
	w := newWalker(ctx, f, m, func(int64, int64) {})
	err = w.walk(bucket{root: m.root}, 0, &visitor{bucket: func(name []byte, _ bucket) (*visitor, error) {
		p := &packing{page: m.pageSize}
		buckets = append(buckets, p)
		return &visitor{bucket: noBucket(string(name)), entry: func(e *entry) error {
			p.add(int64(len(e.key)), e.size)
			return nil
		}}, nil
	}})
	if err == nil {
		err = w.verdict()
	}
	if err != nil {
		return 0, err
	}
	pages := int64(sparePages)
	for _, p := range buckets {
		pages += p.finish()
	}
	return pages * m.pageSize, nil
}

// sparePages are those that hold no entries: two for the meta pages, one for the root bucket, and
// some that the last transactions left free.
const sparePages = 8

const (
	fillTenths  = 9 // of a page are filled in a defragmentation, as far as entries allow it
	leastKeys   = 2 // in a page (bbolt, MinKeysPerPage)
	inlineShare = 4 // a bucket of at most that share of a page has none of its own
)

// packing fills the pages of one level of a bucket's tree.
type packing struct {
	page  int64 // bytes
	pages int64
	above *packing

	size, keys int64 // of the page that is being filled
	first      int64 // bytes of its first key
	nodes      int64 // pages, each with those that it overflows into
}

// add puts an entry, or the branch element for a page below, into the page.
func (p *packing) add(key, value int64) {
	bytes := elementSize + key + value
	if p.keys >= leastKeys && pageHeader+p.size+bytes > p.page*fillTenths/10 {
		p.turn()
	}
	if p.keys == 0 {
		p.first = key
	}
	p.size += bytes
	p.keys++
}

// turn ends a page, for which the page above gets an element.
func (p *packing) turn() {
	p.pages += (pageHeader + p.size + p.page - 1) / p.page
	p.nodes++
	if p.above == nil {
		p.above = &packing{page: p.page}
	}
	p.above.add(p.first, 0)
	p.size, p.keys = 0, 0
}

// finish returns how many pages the bucket has.
func (p *packing) finish() int64 {
	if p.nodes == 0 {
		if pageHeader+p.size <= p.page/inlineShare {
			return 0
		}
		return (pageHeader + p.size + p.page - 1) / p.page
	}
	p.turn()
	return p.pages + p.above.finish()
}
