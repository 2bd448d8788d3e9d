package snapfile

import (
	"encoding/binary"
	"fmt"
)

// revision is a key of etcd's key bucket (server/storage/mvcc/revision.go): main and sub, 8
// bytes each, big endian, separated by an underscore, and followed by a t if the entry says
// that its key was deleted.
type revision struct {
	main, sub int64
	tombstone bool
}

func parseRevision(b []byte) (revision, error) {
	if len(b) != 17 && len(b) != 18 {
		return revision{}, fmt.Errorf("%d bytes are not a revision", len(b))
	}
	if b[8] != '_' {
		return revision{}, fmt.Errorf("%q parts its halves", b[8])
	}
	if len(b) == 18 && b[17] != 't' {
		return revision{}, fmt.Errorf("the unknown mark %q ends it", b[17])
	}
	r := revision{int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[9:])), len(b) == 18}
	if r.main < 1 || r.sub < 0 {
		return revision{}, fmt.Errorf("%d.%d is below the first revision", r.main, r.sub)
	}
	return r, nil
}

// keyValue is etcd's mvccpb.KeyValue; key and value are known by their places.
type keyValue struct {
	key, value                     field
	created, modified, vers, lease int64
}

func (e *entry) keyValue() (kv keyValue, wrong string, err error) {
	off, size := e.value()
	m := message{window: e.window, off: off, end: off + size}
	for {
		f, wrong, err := m.next()
		if wrong != "" || err != nil {
			return kv, wrong, err
		}
		if wantsBytes := f.number == 1 || f.number == 5; f.number >= 1 && f.number <= 6 && f.delimited != wantsBytes {
			return kv, malformed, nil
		}
		switch f.number {
		case 0:
			return kv, "", nil
		case 1:
			kv.key = f
		case 2:
			kv.created = int64(f.value)
		case 3:
			kv.modified = int64(f.value)
		case 4:
			kv.vers = int64(f.value)
		case 5:
			kv.value = f
		case 6:
			kv.lease = int64(f.value)
		}
	}
}

// judge checks a key and value against their revision, as etcd writes them (mvcc kvstore_txn.go,
// put and delete). An entirely empty entry is the mark that `etcdutl snapshot restore
// --bump-revision` leaves.
func (kv *keyValue) judge(r revision, size int64) string {
	switch {
	case size == 0 && !r.tombstone:
		return ""
	case kv.key.size == 0:
		return "it has no key"
	case r.tombstone:
		return ""
	case kv.modified != r.main:
		return fmt.Sprintf("it says that it was modified at %d", kv.modified)
	case kv.created < 1 || kv.created > kv.modified:
		return fmt.Sprintf("it says that it was created at %d", kv.created)
	case kv.vers < 1 || kv.vers == 1 && kv.created != kv.modified:
		return fmt.Sprintf("it is version %d of a key created at %d", kv.vers, kv.created)
	}
	return ""
}

// ledger reads the key bucket for the first time: it checks every entry and finds the live ones.
type ledger struct {
	last    revision
	entries uint64
	live    *liveTable
	notes   notebook
	// The first revision behind the last gap, and the last one before it.
	behind, before int64
	tail           *tail // nil: not wanted
}

func (l *ledger) visitor() *visitor { return &visitor{entry: l.entry, bucket: noBucket("key")} }

func (l *ledger) entry(e *entry) error {
	at := e.off
	r, err := parseRevision(e.key)
	if err != nil {
		return bad(CheckKeys, at, "the entry at offset %d has no revision for a key: %v", at, err)
	}
	if r.main == l.last.main && r.sub == l.last.sub {
		return bad(CheckKeys, at, "the entry at offset %d repeats revision %d.%d", at, r.main, r.sub)
	}
	if next := max(l.last.main, firstRevision) + 1; r.main > next {
		l.before, l.behind = next-1, r.main
	}
	l.last = r
	kv, wrong, err := e.keyValue()
	if err != nil {
		return err
	}
	if wrong == "" {
		wrong = kv.judge(r, e.size)
	}
	if wrong != "" {
		return bad(CheckKeys, at, "the entry at offset %d, revision %d.%d: %s", at, r.main, r.sub, wrong)
	}
	l.entries++
	if err := l.tail.add(e.window, r, &kv); err != nil {
		return err
	}
	if err := l.live.add(e.window, kv.key, l.entries-1, r.tombstone); err != nil {
		return err
	}
	return l.notes.add(e, r, &kv)
}

// firstRevision is that of an empty etcd: the first write gets the next one.
const firstRevision = 1

// whole says that no revision is missing. Each write has the revision after that of the write
// before, and only a compaction removes any, of those up to its own.
func (l *ledger) whole(compacted int64) error {
	if l.behind == 0 || l.behind-1 <= compacted {
		return nil
	}
	return bad(CheckKeys, 0, "revision %d is missing: %d follows %d, as in a copy made while etcd was "+
		"writing", max(l.before, compacted)+1, l.behind, l.before)
}

// noBucket is for buckets without nested ones.
func noBucket(name string) func([]byte, bucket) (*visitor, error) {
	return func([]byte, bucket) (*visitor, error) {
		return nil, bad(CheckKeys, 0, "the bucket %q holds another bucket", name)
	}
}
