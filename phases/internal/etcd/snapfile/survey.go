package snapfile

import (
	"bytes"
	"hash/crc32"
	"slices"
)

const (
	most        = 4096 // bytes of a key or value that are looked at
	encPrefix   = "k8s:enc:"
	registry    = "/registry/"
	masterLease = "masterleases"
	maxPrefixes = 256
	maxNames    = 4096
	maxMasters  = 1024
)

// survey reads the key bucket once it is known which entries are live: for etcd's hash of it, and for what Kubernetes keeps in it.
type survey struct {
	report   *Report
	live     bitmap
	anyLive  bool
	n        uint64 // entries seen
	hash     uint32
	castagno *crc32.Table
	prefixes map[string]bool
	counts   map[string]*int64
	name     []byte
}

func newSurvey(r *Report, live bitmap) *survey {
	t := crc32.MakeTable(crc32.Castagnoli)
	s := &survey{report: r, live: live, castagno: t, hash: crc32.Update(0, t, []byte("key")), prefixes: map[string]bool{}, counts: map[string]*int64{}}
	s.anyLive = slices.ContainsFunc(live, func(w uint64) bool { return w != 0 })
	r.Resources = map[string]int64{}
	return s
}

func (s *survey) visitor() *visitor { return &visitor{entry: s.entry, bucket: noBucket("key")} }

func (s *survey) entry(e *entry) error {
	r, err := parseRevision(e.key)
	if err != nil {
		return bad(CheckKeys, e.off, "the entry at offset %d: %v", e.off, err)
	}
	live := s.live.has(s.n)
	s.n++
	if live {
		if err := s.object(e); err != nil {
			return err
		}
	}
	if !s.hashed(r, live) {
		return nil
	}
	return e.window.each(e.off, int64(len(e.key))+e.size, func(b []byte) { s.hash = crc32.Update(s.hash, s.castagno, b) })
}

// hashed tells whether etcd's hash takes an entry in (mvcc hash.go, kvHasher.WriteKeyValue): all above the compact revision; of the others
// those that a compaction now would keep (the last of each key, unless a deletion), or all if it would keep none; never a deletion at the compact revision itself.
func (s *survey) hashed(r revision, live bool) bool {
	compact := s.report.HashCompactRevision
	if r.main > compact {
		return true
	}
	if s.anyLive && !live {
		return false
	}
	return r.main != compact || !r.tombstone
}

// object counts a live key and value.
func (s *survey) object(e *entry) error {
	kv, wrong, err := e.keyValue()
	if err != nil {
		return err
	}
	if wrong != "" {
		return bad(CheckKeys, e.off, "the entry at offset %d: %s", e.off, wrong)
	}
	if kv.key.size == 0 {
		return nil // the mark of a raised revision
	}
	s.report.Keys++
	key, err := e.window.at(kv.key.off, int(min(kv.key.size, most)))
	if err != nil {
		return err
	}
	if rest, ok := bytes.CutPrefix(key, []byte(registry)); ok {
		s.count(rest)
	}
	value, err := e.window.at(kv.value.off, int(min(kv.value.size, most)))
	if err != nil {
		return err
	}
	if bytes.HasPrefix(value, []byte(encPrefix)) {
		s.encrypted(value)
	}
	return nil
}

// count takes a key below /registry/ (kube-apiserver's default --etcd-prefix).
func (s *survey) count(path []byte) {
	r := s.report
	first, rest, _ := bytes.Cut(path, []byte("/"))
	second, _, below := bytes.Cut(rest, []byte("/"))
	if string(first) == masterLease && len(r.MasterLeases) < maxMasters {
		r.MasterLeases = append(r.MasterLeases, string(rest[bytes.LastIndexByte(rest, '/')+1:]))
	}
	s.name = resourceName(s.name[:0], first, second, below)
	n := s.counts[string(s.name)]
	if n == nil {
		name := string(s.name)
		if len(s.counts) >= maxNames || len(name) > 512 {
			name = "other"
		}
		if n = s.counts[name]; n == nil {
			n = new(int64)
			s.counts[name] = n
		}
	}
	*n++
}

// resourceName is the name that kubectl knows for the objects below two path elements. Custom resources, and those of API extensions, are
// stored below their group; five built-in ones under old names (kubernetes pkg/kubeapiserver, SpecialDefaultResourcePrefixes).
func resourceName(name, first, second []byte, below bool) []byte {
	switch {
	case string(first) == "services" && (string(second) == "specs" || string(second) == "endpoints"):
		if string(second) == "endpoints" {
			return append(name, second...)
		}
	case string(first) == "minions":
		return append(name, "nodes"...)
	case string(first) == "controllers":
		return append(name, "replicationcontrollers"...)
	case string(first) == "ingress":
		return append(name, "ingresses"...)
	case bytes.ContainsRune(first, '.') && below:
		return append(append(append(name, second...), '.'), first...)
	}
	return append(name, first...)
}

// encrypted takes the beginning of a value that the API server encrypted: k8s:enc:<provider>:<version>:<key>:
func (s *survey) encrypted(value []byte) {
	end := len(encPrefix)
	for range 3 {
		i := bytes.IndexByte(value[end:], ':')
		if i < 0 {
			s.prefixes[encPrefix] = true
			return
		}
		end += i + 1
	}
	if !s.prefixes[string(value[:end])] && len(s.prefixes) >= maxPrefixes {
		end = len(encPrefix)
	}
	s.prefixes[string(value[:end])] = true
}

// finish puts what was gathered into the report.
func (s *survey) finish() {
	s.report.HashKV = s.hash
	for p := range s.prefixes {
		s.report.EncryptionPrefixes = append(s.report.EncryptionPrefixes, p)
	}
	for name, n := range s.counts {
		s.report.Resources[name] = *n
	}
	slices.Sort(s.report.EncryptionPrefixes)
	slices.Sort(s.report.MasterLeases)
}
