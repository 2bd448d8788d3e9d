package snapfile

import (
	"context"
	"encoding/binary"
)

// Peek reads the meta pages, the small buckets and the last revision of a snapshot or a raw
// database, in no time. It proves nothing, and fills in only SizeBytes, PageSize, the revisions
// (but not HashKV), versions, ConsistentIndex, Term, Members, Removed and Alarms.
func Peek(path string) (*Report, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.checkLength(true); err != nil {
		return nil, err
	}
	m, err := metas(f, true)
	if err != nil {
		return nil, err
	}
	r := &Report{SizeBytes: f.size, PageSize: int(m.pageSize)}
	c := newContents(r)
	c.onlyBuckets = []string{"meta", "members", "members_removed", "cluster", "alarm"}
	w := newWalker(context.Background(), f, m, func(int64, int64) {})
	if err := w.walk(bucket{root: m.root}, 0, c.root()); err != nil {
		return nil, err
	}
	if err := w.verdict(); err != nil {
		return nil, err
	}
	r.Buckets = nil
	last := revision{}
	if c.keys != nil {
		if last, err = w.lastRevision(*c.keys); err != nil {
			return nil, err
		}
	}
	if err := c.judge(last.main); err != nil {
		return nil, err
	}
	return r, nil
}

// lastRevision follows the right edge of the key bucket.
func (w *walker) lastRevision(b bucket) (revision, error) {
	l, p, id := &level{}, b.inline, b.root
	for depth := 0; ; depth++ {
		if id != 0 {
			var err error
			if p, err = w.open(l, id); err != nil {
				return revision{}, err
			}
		}
		if p.count == 0 && p.flags == leafPage {
			return revision{}, nil
		}
		if p.count == 0 || p.tableEnd() > p.size || depth == maxDepth {
			return revision{}, p.bad("no last element of %d", p.count)
		}
		rel := p.tableEnd() - elementSize
		e, err := l.leaf.first.at(p.off+rel, elementSize)
		if err != nil {
			return revision{}, err
		}
		if p.flags == branchPage {
			if id = binary.LittleEndian.Uint64(e[8:]); id < 2 || id >= w.meta.pages {
				return revision{}, p.bad("its last element leads to page %d of %d", id, w.meta.pages)
			}
			continue
		}
		return w.lastOfLeaf(l, p, rel, e)
	}
}

func (w *walker) lastOfLeaf(l *level, p page, rel int64, e []byte) (revision, error) {
	le := binary.LittleEndian
	start, ksize := rel+int64(le.Uint32(e[4:])), int64(le.Uint32(e[8:]))
	if p.flags != leafPage || start+ksize > p.size || ksize > maxKeySize {
		return revision{}, p.bad("its last element is out of bounds")
	}
	key, err := l.leaf.first.at(p.off+start, int(ksize))
	if err != nil {
		return revision{}, err
	}
	r, err := parseRevision(key)
	if err != nil {
		return revision{}, bad(CheckKeys, p.off+start, "the last entry at offset %d has no revision for a key: %v",
			p.off+start, err)
	}
	return r, nil
}
