package snapfile

import (
	"hash/crc32"
	"io"
	"slices"
)

// survey goes through the key bucket's entries once the live ones are known: for etcd's hash of the
// bucket, and for what Kubernetes keeps in it.
type survey struct {
	*catalogue
	report  *Report
	live    bitmap
	anyLive bool
	n       uint64 // entries seen
	hash    uint32
	join    *joiner
	objects []int64 // of each kind
	// Of those, the encrypted ones.
	encrypted map[sealed]int64
}

func newSurvey(r *Report, live bitmap, c *catalogue) *survey {
	s := &survey{catalogue: c, report: r, live: live, join: newJoiner(),
		encrypted: map[sealed]int64{}, hash: crc32.Checksum([]byte("key"), castagnoli)}
	s.anyLive = slices.ContainsFunc(live, func(w uint64) bool { return w != 0 })
	return s
}

// recall goes through the notes of the first walk.
func (s *survey) recall(b *notebook) {
	for _, page := range b.pages {
		for _, n := range page {
			s.take(n, s.live.has(s.n))
		}
	}
}

// visitor is for a second walk.
func (s *survey) visitor() *visitor { return &visitor{entry: s.entry, bucket: noBucket("key")} }

func (s *survey) entry(e *entry) error {
	r, err := parseRevision(e.key)
	if err != nil {
		return bad(CheckKeys, e.off, "the entry at offset %d: %v", e.off, err)
	}
	var object *keyValue
	live := s.live.has(s.n)
	if live {
		kv, wrong, err := e.keyValue()
		if err != nil {
			return err
		}
		if wrong != "" {
			return bad(CheckKeys, e.off, "the entry at offset %d: %s", e.off, wrong)
		}
		object = &kv
	}
	n, err := s.note(e, r, object)
	if err != nil {
		return err
	}
	s.take(n, live)
	return nil
}

func (s *survey) take(n note, live bool) {
	s.n++
	if live && n.kind != noObject {
		s.report.Keys++
		for len(s.objects) <= int(n.kind) {
			s.objects = append(s.objects, 0)
		}
		s.objects[n.kind]++
		if n.prefix != 0 {
			s.encrypted[sealed{n.kind, n.prefix}]++
		}
	}
	if s.hashed(n, live) {
		s.hash = s.join.append(s.hash, n.crc, n.size)
	}
}

// hashed says whether etcd's hash includes an entry (mvcc hash.go, kvHasher.WriteKeyValue):
// all above the compact revision; of the others those that a compaction now would keep (the
// last of each key, unless a deletion), or all if it would keep none; never a deletion at the
// compact revision itself.
func (s *survey) hashed(n note, live bool) bool {
	compact := s.report.HashCompactRevision
	if n.main > compact {
		return true
	}
	if s.anyLive && !live {
		return false
	}
	return n.main != compact || n.kind != deletion
}

// finish puts the results into the report.
func (s *survey) finish(db io.ReaderAt) (err error) {
	r := s.report
	r.HashKV = s.hash
	r.Resources = map[string]int64{}
	for i, n := range s.objects {
		k := s.kinds[i]
		if n == 0 || k.resource == "" {
			continue
		}
		r.Resources[k.resource] += n
		if k.master != "" && k.unleased {
			r.DeadMasters = append(r.DeadMasters, k.master)
		}
		if k.master != "" {
			r.MasterLeases = append(r.MasterLeases, k.master)
		}
		r.AdminBinding = r.AdminBinding || k.admin
	}
	slices.Sort(r.MasterLeases)
	slices.Sort(r.DeadMasters)
	if r.Samples, err = s.samples.read(db, s.live, maxSamples); err != nil {
		return err
	}
	r.Stored, err = s.storedAs(db)
	return err
}
