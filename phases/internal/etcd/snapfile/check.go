package snapfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// Check reads a whole snapshot and proves it good, or returns a [*Bad]. Other errors say that it
// could not be read, or that ctx was cancelled. A second core computes the SHA-256 during the
// walk through the pages; if its steps are known, both cores do. If both find something, the
// trailer is reported.
func Check(ctx context.Context, path string, o Options) (*Report, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.checkFormat(); err != nil {
		return nil, err
	}
	if err := f.checkLength(o.Raw); err != nil {
		return nil, err
	}
	m, badMeta := metas(f, o.Raw)
	var b *Bad
	if badMeta != nil && (!errors.As(badMeta, &b) || b.Check == CheckLength) {
		return nil, badMeta
	}

	p := newProgress(o, f)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	feed, front := newFeeder(f, o.Drop), newHasher()
	r := &Report{SizeBytes: f.size, PageSize: int(m.pageSize), HashChecked: !o.Raw}
	_, hashed := Beside(func() { err = f.hash(front, feed, p.add) })
	walked := badMeta
	if walked == nil && !o.Quick {
		walked = walkAll(ctx, f, m, r, p, feed.between, liveSlots, maxNotes)
	}
	if walked != nil && !isBad(walked) {
		cancel()
	}
	last := f.fromTheEnd(ctx, feed, o.Steps, p.add)
	feed.rest(ctx)
	hashed()
	feed.over()
	if err == nil {
		err = f.join(ctx, front, last, o.Steps, p)
	}
	if err == nil {
		r.Steps = front.steps
		err = f.compare(front, r, o.Raw)
	}
	if err = first(err, walked); err != nil {
		return nil, err
	}
	p.finish()
	return r, nil
}

// first picks the error to report: the hash's, unless the walk's error cancelled the hash.
func first(hashed, walked error) error {
	if hashed == nil || errors.Is(hashed, context.Canceled) && walked != nil && !errors.Is(walked, context.Canceled) {
		return walked
	}
	return hashed
}

// walkAll goes through all pages once. If there are more keys than the table holds, it goes through
// the key bucket again for each further part of the table. If there are more entries than it can
// note, it makes one last pass for what only concerns live entries.
func walkAll(
	ctx context.Context, db io.ReaderAt, m meta, r *Report, p *progress, between func(off int64), slots, notes int,
) error {
	l := &ledger{live: newLiveTable(slots), notes: notebook{catalogue: newCatalogue(), most: notes, gone: p.more}}
	if raw := !r.HashChecked; raw {
		l.tail = &tail{}
	}
	c := newContents(r)
	c.keyVisitor = func(bucket) *visitor { return l.visitor() }
	w := newWalker(ctx, db, m, func(off, n int64) {
		p.add(n)
		between(off)
	})
	w.strict = l.tail != nil
	if err := w.walk(bucket{root: m.root}, 0, c.root()); err != nil {
		return err
	}
	if err := w.freelist(); err != nil {
		return err
	}
	if err := w.verdict(); err != nil {
		return err
	}
	if err := c.judge(l.last.main); err != nil {
		return err
	}
	if err := l.atRest(db, w.limit(), c, r); err != nil {
		return err
	}
	r.Revisions = int64(l.entries)
	live := newBitmap(l.entries)
	l.live.mark(live)
	for part := uint64(1); part < l.live.share; part++ {
		l.live.pass(part)
		again := &ledger{live: l.live}
		if err := newWalker(ctx, db, m, func(int64, int64) {}).again(*c.keys, again.visitor()); err != nil {
			return err
		}
		if again.entries != l.entries {
			return fmt.Errorf("the snapshot changed while it was read")
		}
		l.live.mark(live)
	}
	return surveyAll(ctx, db, m, r, p, l, live, c)
}

// atRest is for a raw database: one that was copied while etcd wrote may lack revisions.
func (l *ledger) atRest(db io.ReaderAt, limit int64, c *contents, r *Report) (err error) {
	if l.tail == nil {
		return nil
	}
	if err := l.whole(max(c.finished, c.scheduled)); err != nil {
		return err
	}
	if missing := c.missing(); missing != "" {
		return bad(CheckKeys, 0, "it has no bucket %q, which every etcd makes before it applies anything", missing)
	}
	r.Tail, err = l.tail.records(&window{src: db, limit: limit, max: maxAhead})
	return err
}

// surveyAll needs no second walk if the first one noted everything.
func surveyAll(
	ctx context.Context, db io.ReaderAt, m meta, r *Report, p *progress, l *ledger, live bitmap, c *contents,
) error {
	noted := l.notes.catalogue
	s := newSurvey(r, live, cmp.Or(noted, newCatalogue()))
	if noted != nil {
		s.recall(&l.notes)
	} else if err := newWalker(ctx, db, m, func(_, n int64) { p.add(n) }).again(*c.keys, s.visitor()); err != nil {
		return err
	}
	return s.finish(db)
}

// progress counts the bytes read: the file once for the hash, and once each for the first walk and,
// if needed, the last.
type progress struct {
	report      func(done, total int64)
	size        int64
	total       atomic.Int64
	done, shown atomic.Int64
	mu          sync.Mutex
}

const progressStep = 4 << 20

func newProgress(o Options, f *file) *progress {
	p := &progress{report: o.Progress, size: f.dbSize}
	p.more()
	if !o.Quick {
		p.more()
	}
	return p
}

// more says that the file is read once more.
func (p *progress) more() { p.total.Add(p.size) }

func (p *progress) add(n int64) {
	done := p.done.Add(n)
	if p.report == nil || done-p.shown.Load() < progressStep || !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	if done > p.shown.Load() {
		p.shown.Store(done)
		p.report(min(done, p.total.Load()), p.total.Load())
	}
}

func (p *progress) finish() {
	if p.report != nil {
		p.report(p.total.Load(), p.total.Load())
	}
}
