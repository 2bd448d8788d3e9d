package snapfile

import (
	"io"
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
)

type samples map[string][]spot

func (s samples) add(name string, p spot) {
	if p.value.size > maxSample || p.key.size > most {
		return
	}
	if len(s[name]) == maxPlaces {
		s[name] = append(s[name][:0], s[name][1:]...)
	}
	s[name] = append(s[name], p)
}

// read takes the newest live ones.
func (s samples) read(db io.ReaderAt, live bitmap, r *Report) error {
	for name, places := range s {
		for i := len(places) - 1; i >= 0 && len(r.Samples[name]) < maxSamples; i-- {
			p := places[i]
			if !live.has(p.entry) {
				continue
			}
			key, value := make([]byte, p.key.size), make([]byte, p.value.size)
			if _, err := db.ReadAt(key, p.key.off); err != nil {
				return err
			}
			if _, err := db.ReadAt(value, p.value.off); err != nil {
				return err
			}
			if r.Samples == nil {
				r.Samples = map[string][]Sample{}
			}
			r.Samples[name] = append(r.Samples[name], Sample{string(key), value})
		}
	}
	return nil
}
