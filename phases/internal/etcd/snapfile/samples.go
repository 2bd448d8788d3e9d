package snapfile

import (
	"cmp"
	"io"
	"slices"
	"strings"
)

// Sample is one live object of the snapshot, as it is stored.
type Sample struct {
	Key   string
	Value []byte
}

// What samples are taken of, besides encrypted values: objects in which the cluster's CA stands,
// and the tokens of service accounts, which name the key that signed them.
const (
	rootCA      = "configmaps/kube-system/kube-root-ca.crt"
	clusterInfo = "configmaps/kube-public/cluster-info"
	clientCA    = "configmaps/kube-system/extension-apiserver-authentication"
	secrets     = "secrets/"
	tokenType   = "kubernetes.io/service-account-token"
)

// CASamples are the names of the samples in which CAs stand.
func CASamples() []string { return []string{rootCA, clusterInfo, clientCA} }

// TokenSamples is the name of the samples that are tokens of service accounts.
const TokenSamples = secrets

func wantedObject(path []byte) string {
	switch name := string(path); {
	case name == rootCA || name == clusterInfo || name == clientCA:
		return name
	case strings.HasPrefix(name, secrets):
		return secrets
	}
	return ""
}

// spot is where an object is in the file.
type spot struct {
	entry      uint64 // in the key bucket
	key, value field
}

const (
	maxSample  = 64 << 10 // bytes of a value
	maxPlaces  = 32       // the newest of a name: which of them is live is known only at the end
	maxSamples = 4        // of a name
	maxSealed  = 512      // resources and prefixes of encrypted values of which samples are taken
)

// samples are places of what samples are taken of.
type samples[K comparable] map[K][]spot

func (s samples[K]) add(name K, p spot) {
	if p.value.size > maxSample || p.key.size > most {
		return
	}
	if len(s[name]) == maxPlaces {
		s[name] = append(s[name][:0], s[name][1:]...)
	}
	s[name] = append(s[name], p)
}

// read takes the newest live ones, and not more than asked for.
func (s samples[K]) read(db io.ReaderAt, live bitmap, atMost int) (map[K][]Sample, error) {
	read := map[K][]Sample{}
	for name, places := range s {
		for i := len(places) - 1; i >= 0 && len(read[name]) < atMost; i-- {
			p := places[i]
			if !live.has(p.entry) {
				continue
			}
			key, value := make([]byte, p.key.size), make([]byte, p.value.size)
			if _, err := db.ReadAt(key, p.key.off); err != nil {
				return nil, err
			}
			if _, err := db.ReadAt(value, p.value.off); err != nil {
				return nil, err
			}
			read[name] = append(read[name], Sample{string(key), value})
		}
	}
	return read, nil
}

// sealed are the objects of one kind whose values begin alike: both are indexes in the catalogue.
type sealed struct{ kind, prefix uint16 }

// storedAs says how the live objects of each resource are stored.
func (s *survey) storedAs(db io.ReaderAt) (all []Stored, err error) {
	read, err := s.sealed.read(db, s.live, 1)
	if err != nil {
		return nil, err
	}
	type as struct{ resource, prefix string }
	found, custom := map[as]*Stored{}, map[string]bool{}
	at := func(resource, prefix string) *Stored {
		a := as{resource, prefix}
		if found[a] == nil {
			found[a] = &Stored{Resource: resource, Prefix: prefix}
		}
		return found[a]
	}
	for i, n := range s.objects {
		if k := s.kinds[i]; n > 0 && k.resource != "" {
			at(k.resource, "").Objects += n
			custom[k.defines] = k.defines != ""
		}
	}
	for of, n := range s.encrypted {
		resource := s.kinds[of.kind].resource
		one := at(resource, s.prefixes[of.prefix])
		one.Objects += n
		if values := read[of]; len(values) > 0 {
			one.Sample = &values[0]
		}
		at(resource, "").Objects -= n
	}
	for _, one := range found {
		if one.Custom = custom[one.Resource]; one.Objects > 0 {
			all = append(all, *one)
		}
	}
	slices.SortFunc(all, func(a, b Stored) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Prefix, b.Prefix))
	})
	return all, nil
}
