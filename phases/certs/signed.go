package certs

import (
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// signedPair is a certificate signed elsewhere, with its key.
type signedPair struct {
	base     string // host path, without .crt and .key
	sums     [2]string
	problems []*pki.Problem
}

// observeSigned reads what was signed elsewhere, and checks it against its key, the CA trusted
// here, and its use. If no names were given, those that are there count.
func observeSigned(n *observe.Node, r *RenewalFacts, o RenewOptions, now time.Time) error {
	if !n.Exists(o.From) {
		return engine.Refuse("--from names the directory into which `etcdpod certs generate-csr` wrote the requests",
			"there is no directory %s", o.From)
	}
	r.Signed = map[string]signedPair{}
	if len(o.Names) == 0 || isAll(o.Names) {
		r.Uses = slices.DeleteFunc(r.Uses, func(use certUse) bool { return !n.Exists(o.signedAt(use) + ".crt") })
	}
	for _, use := range r.Uses {
		s := signedPair{base: o.signedAt(use)}
		l := use.leaf
		l.CertFile, l.KeyFile = s.base+".crt", s.base+".key"
		var err error
		for i, file := range []struct {
			name string
			to   *[]byte
		}{{l.CertFile, &l.Cert}, {l.KeyFile, &l.Key}} {
			if *file.to, err = n.ReadOptional(file.name); err != nil {
				return err
			}
			s.sums[i] = fmt.Sprintf("%x", sha256.Sum256(*file.to))
		}
		s.problems = l.Check(now)
		r.Signed[use.name] = s
	}
	return nil
}

// signedAt is where `certs generate-csr` put the request, and the signer the certificate.
func (o RenewOptions) signedAt(use certUse) string {
	s, err := pki.EtcdSpec(use.name)
	if err != nil { // chosen takes names from the table only
		return ""
	}
	return path.Join(o.From, s.Base)
}

func (o RenewOptions) checkSigned(f *Facts) error {
	for _, use := range f.Renewal.Uses {
		for _, p := range f.Renewal.Signed[use.name].problems {
			return engine.Refuse("have it signed again by the CA that is trusted here: `etcdpod certs generate-csr` "+
				"creates the request", "%s cannot be used: %s", use.name, p.What)
		}
	}
	return nil
}
