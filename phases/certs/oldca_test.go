package certs

import (
	"cmp"
	"slices"
	"strings"
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
		read := []Status{StatusOfCA(n, "/ca.crt", now)}
		what := Renewal(read, func(Status) bool { return true })
		if days > 60 && what != pki.NewCA || days == 50 && what != "" {
			t.Errorf("on day %d of 90 status proposes %q", days, what)
		}
	}
}

// While a CA is exchanged, its file holds the old one and the new one, in either order: `status`
// and `certs check` judge the one that signs.
func TestOfSeveralCAsTheOneThatSignsIsJudgedEverywhere(t *testing.T) {
	made := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	at := func(begin time.Time) pki.Pair {
		t.Helper()
		issuer := pki.Issuer{Now: begin, Config: pki.Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11",
			Algorithm: pki.ECDSAP256, Validity: 90 * 24 * time.Hour, CAValidity: 90 * 24 * time.Hour}}
		pair, err := issuer.NewCA(mustSpec(t, "etcd-ca"))
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	now := made.AddDate(0, 0, 85)
	before, after := at(made), at(now.AddDate(0, 0, -1))
	for name, c := range map[string]struct {
		first, second pki.Pair
		key           []byte
		next          string
	}{
		"the new one signs, and is second": {before, after, after.Key, NothingToDo},
		"the new one signs, and is first":  {after, before, after.Key, NothingToDo},
		"the old one signs, and is second": {after, before, before.Key, pki.NewCA},
		"the old one signs, and is first":  {before, after, before.Key, pki.NewCA},
	} {
		n := &observe.Node{View: node.View{FS: onDisk(t, map[string][]byte{
			"/ca.crt": slices.Concat(c.first.Cert, c.second.Cert), "/ca.key": c.key})}}
		ca := certAuthority{name: "etcd-ca", certFile: "/ca.crt", keyFile: "/ca.key"}
		r := Report{CertificateAuthorities: []CertificateReport{checkCA(n, ca, now)}}
		r.Findings = r.CertificateAuthorities[0].found
		what := Renewal([]Status{StatusOfCA(n, "/ca.crt", now)}, func(Status) bool { return true })
		if next := r.next(); next != c.next || cmp.Or(what, NothingToDo) != c.next {
			t.Errorf("%s: certs check proposes %q, status %q", name, next, what)
		}
	}
	// What signs itself, as openssl makes it, is a leaf all the same.
	leaf := StatusOf("/server.crt", before.Cert, nil, now)
	if what := Renewal([]Status{leaf}, func(Status) bool { return true }); !strings.Contains(what, "certs renew") {
		t.Errorf("of a leaf that says it is a CA: %q", what)
	}
}
