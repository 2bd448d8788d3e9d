package snapfile

import "hash/crc32"

const (
	tailRecords = 2048
	tailKeys    = 1 << 20 // bytes; beyond, fewer records are kept
)

// tail keeps the last records of the key bucket.
type tail struct {
	kept []tailRecord
	keys int // bytes
}

type tailRecord struct {
	Record
	value field
}

// add does nothing for a tail that is not wanted.
func (t *tail) add(w *window, r revision, kv *keyValue) error {
	if t == nil {
		return nil
	}
	if kv.key.size > maxKeySize {
		t.kept, t.keys = nil, 0 // what comes before cannot be told from what comes after
		return nil
	}
	key := make([]byte, 0, kv.key.size)
	if err := w.each(kv.key.off, kv.key.size, func(b []byte) { key = append(key, b...) }); err != nil {
		return err
	}
	record := Record{Main: r.main, Sub: r.sub, Deleted: r.tombstone, Key: string(key), Created: kv.created,
		Version: kv.vers}
	t.kept = append(t.kept, tailRecord{record, kv.value})
	t.keys += len(key)
	if len(t.kept) >= 2*tailRecords || t.keys > tailKeys && len(t.kept) > 1 {
		t.halve()
	}
	return nil
}

func (t *tail) halve() {
	for _, r := range t.kept[:len(t.kept)/2] {
		t.keys -= len(r.Key)
	}
	t.kept = append([]tailRecord(nil), t.kept[len(t.kept)/2:]...)
}

// records reads the values. The oldest revision is left out: a part of it may not have been kept.
func (t *tail) records(w *window) ([]Record, error) {
	all := make([]Record, 0, len(t.kept))
	for _, r := range t.kept {
		if r.Main == t.kept[0].Main {
			continue
		}
		err := w.each(r.value.off, r.value.size, func(b []byte) {
			r.ValueCRC = crc32.Update(r.ValueCRC, castagnoli, b)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, r.Record)
	}
	return all, nil
}
