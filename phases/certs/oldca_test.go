package certs

import (
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// No certificate outlasts its CA, so renewing is no answer where the CA ends.
func TestWhereACAEndsNoRenewalIsProposed(t *testing.T) {
	made := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	issuer := pki.Issuer{Now: made, Config: pki.Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11",
		Algorithm: pki.ECDSAP256, Validity: 90 * 24 * time.Hour, CAValidity: 90 * 24 * time.Hour}}
	pair, err := issuer.NewCA(mustSpec(t, "etcd-ca"))
	if err != nil {
		t.Fatal(err)
	}
	n := &observe.Node{View: node.View{FS: onDisk(t, map[string][]byte{"/ca.crt": pair.Cert, "/ca.key": pair.Key})}}
	ca := certAuthority{name: "etcd-ca", certFile: "/ca.crt", keyFile: "/ca.key"}
	leaf := CertificateReport{Name: "etcd-server", CAName: "etcd-ca", Problems: []string{"it expires"}}
	for days, want := range map[int]string{
		80: pki.NewCA, 100: pki.NewCA,
		50: "run `etcdpod certs renew`",
		-1: "check this node's clock; if it is correct, put back a CA certificate and key that belong together: " +
			"other control planes have the same pair",
	} {
		now := made.AddDate(0, 0, days)
		r := Report{CertificateAuthorities: []CertificateReport{checkCA(n, ca, now)},
			Certificates: []CertificateReport{leaf}}
		if next := r.next(); next != want {
			t.Errorf("on day %d of 90 it proposes %q", days, next)
		}
		read := []Status{StatusOf("/ca.crt", pair.Cert, nil, now)}
		what := Renewal(read, func(Status) bool { return true })
		if days > 60 && what != pki.NewCA || days == 50 && what != "" {
			t.Errorf("on day %d of 90 status proposes %q", days, what)
		}
	}
}
