package pki_test

import (
	"crypto"
	"fmt"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/oracle"
	"github.com/etcdpod/etcdpod/pki"
)

// For each of the oracle's configurations the certificates are kubeadm's in every field except
// serial numbers, keys and times, and their files have the same modes; exceptions are declared
// in oracle.Departures.
func TestCertificatesAreThoseOfKubeadm(t *testing.T) {
	cases, err := oracle.Cases(binaries.KubeadmVersions())
	if err != nil {
		t.Fatal(err)
	}
	issue := issuing()
	compared := 0
	for _, c := range cases {
		for _, version := range c.Versions {
			want := c.Golden[version]
			departs := c.Departure(version)
			if want.Refused || departs&oracle.Refuses != 0 { // compared together with the manifests
				continue
			}
			dir, config, err := c.PKI(version)
			if err != nil {
				t.Errorf("%s, kubeadm %s: %v", c.Name, version, err)
				continue
			}
			got, err := issue(dir, config)
			if err != nil || (got != want.Certificates) != (departs&oracle.Certs != 0) {
				t.Errorf("%s, kubeadm %s: %v\n%s", c.File(), version, err, oracle.Diff(want.Certificates, got))
			}
			compared++
		}
	}
	if compared < 160 {
		t.Errorf("only %d configurations were compared", compared)
	}
}

// issuing makes certificates, once for each configuration. Keys take long to make and are not
// compared, so there is one of each algorithm.
func issuing() func(dir string, config pki.Config) (string, error) {
	keys := map[pki.Algorithm]crypto.Signer{}
	newKey := func(a pki.Algorithm) (crypto.Signer, error) {
		var err error
		if keys[a] == nil {
			keys[a], err = pki.NewKey(a)
		}
		return keys[a], err
	}
	done := map[string]string{}
	return func(dir string, config pki.Config) (string, error) {
		if dir == "" {
			return "", nil
		}
		of := fmt.Sprintf("%s %+v", dir, config)
		var err error
		if done[of] == "" {
			done[of], err = oracle.Issue(dir, pki.Issuer{Config: config, Now: time.Now(), NewKey: newKey})
		}
		return done[of], err
	}
}
