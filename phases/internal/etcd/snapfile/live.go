package snapfile

import (
	"hash/maphash"
	"os"
)

// liveSlots bounds the table of keys to 16 MiB.
const liveSlots = 1 << 20

// liveTable finds the last entry of every key. It holds 64-bit hashes of keys, salted anew in each
// run: among ten million keys, two collide once in 300,000 runs. When it is full it drops half of
// the hashes, which take further passes over the file.
type liveTable struct {
	seed        maphash.Seed
	slots       []slot
	used        int
	share, part uint64 // holds hashes with hash % share == part; share is a power of two
	most        int
}

// slot holds a key's last entry. order is 0 in an unused slot, else twice the entry's number, plus
// two, plus one for a deletion.
type slot struct{ hash, order uint64 }

const slotSize = 16 // bytes

func newLiveTable(most int) *liveTable {
	return &liveTable{seed: maphash.MakeSeed(), slots: newSlots(min(most, 1<<10)), share: 1, most: most}
}

// newSlots writes to each page of a new table. A page that is read before it is written gets
// replaced on its first write, and each time the other cores of the process stop to forget the old
// one: the hash's core, two thousand times.
func newSlots(n int) []slot {
	slots := make([]slot, n)
	for i := 0; i < n; i += os.Getpagesize() / slotSize {
		slots[i] = slot{}
	}
	return slots
}

// pass empties the table and makes it find the hashes of one part.
func (t *liveTable) pass(part uint64) {
	clear(t.slots)
	t.used, t.part = 0, part
}

func (t *liveTable) add(w *window, key field, entry uint64, tombstone bool) error {
	hash, err := t.hash(w, key)
	if err != nil || hash%t.share != t.part {
		return err
	}
	order := 2*entry + 2
	if tombstone {
		order++
	}
	t.put(slot{hash, order})
	return nil
}

func (t *liveTable) hash(w *window, key field) (uint64, error) {
	if key.size <= int64(w.max) {
		b, err := w.at(key.off, int(key.size))
		return maphash.Bytes(t.seed, b), err
	}
	var h maphash.Hash
	h.SetSeed(t.seed)
	err := w.each(key.off, key.size, func(b []byte) { h.Write(b) })
	return h.Sum64(), err
}

func (t *liveTable) put(s slot) {
	mask := uint64(len(t.slots) - 1)
	// All hashes of a part share their lowest bits: the place comes from the highest.
	for i := s.hash >> 32; ; i++ {
		p := &t.slots[i&mask]
		if p.order != 0 && p.hash != s.hash {
			continue
		}
		if p.order == 0 {
			t.used++
		}
		*p = s
		break
	}
	if t.used > len(t.slots)/4*3 {
		t.relieve()
	}
}

// relieve makes room: with a larger table or, in the first pass, a smaller share. In a later pass
// the part is known to fit, except by chance.
func (t *liveTable) relieve() {
	old := t.slots
	if len(old) < t.most || t.part != 0 {
		t.slots = newSlots(2 * len(old))
	} else {
		t.share *= 2
		old = t.staying()
		clear(t.slots) // the same table again: a new one would double the memory
	}
	t.used = 0
	for _, s := range old {
		if s.order != 0 {
			t.put(s)
		}
	}
}

// staying returns the slots that are in the share.
func (t *liveTable) staying() []slot {
	n := 0
	for _, s := range t.slots {
		if s.order != 0 && s.hash%t.share == t.part {
			n++
		}
	}
	stay := make([]slot, 0, n)
	for _, s := range t.slots {
		if s.order != 0 && s.hash%t.share == t.part {
			stay = append(stay, s)
		}
	}
	return stay
}

// mark adds to a set the entries that are the last of their keys and no deletions.
func (t *liveTable) mark(live bitmap) {
	for _, s := range t.slots {
		if s.order != 0 && s.order%2 == 0 {
			live.set(s.order/2 - 1)
		}
	}
}
