package status

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io/fs"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

func TestCertificatesAreJudgedByTheirDays(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	cases := []struct {
		name       string
		begin, end time.Time
		problem    string
	}{
		{"a good one", now.Add(-time.Hour), now.AddDate(0, 0, 31), ""},
		{"one that expires soon", now.Add(-time.Hour), now.AddDate(0, 0, 29).Add(time.Hour), "expires in 29 days"},
		{"one that has expired", now.AddDate(-1, 0, 0), now.Add(-time.Minute), "expired on 2026-01-02"},
		{"one that is not valid yet", now.Add(time.Hour), now.AddDate(1, 0, 0), "not valid before"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := certs.StatusOf("/pki/x.crt", certificate(t, c.begin, c.end, false), nil, now)
			if !strings.Contains(got.Problem, c.problem) || (got.Problem == "") != (c.problem == "") ||
				got.CN != "cp1" {
				t.Errorf("%+v", got)
			}
		})
	}
	if got := certs.StatusOf("/x", nil, fs.ErrNotExist, now); got.Problem != "it is missing" {
		t.Errorf("%+v", got)
	}
	if got := certs.StatusOf("/x", []byte("junk"), nil, now); !strings.Contains(got.Problem,
		"cannot read certificate /x") {
		t.Errorf("%+v", got)
	}
}

// ending is the status of a CA that ends in so many days.
func ending(t *testing.T, now time.Time, days int) certs.Status {
	t.Helper()
	end := now.AddDate(0, 0, days).Add(time.Hour)
	disk := node.OS(t.TempDir())
	if err := disk.Create("/ca.crt", certificate(t, now.AddDate(-1, 0, 0), end, true), node.Mine(0o600)); err != nil {
		t.Fatal(err)
	}
	n := &observe.Node{View: (&node.Host{FS: disk}).View()}
	return certs.StatusOfCA(n, "/ca.crt", now)
}

func certificate(t *testing.T, begin, end time.Time, ca bool) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cp1"},
		NotBefore: begin, NotAfter: end, IsCA: ca, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestTheFlagsThatNameCertificatesAreKnown(t *testing.T) {
	for flag, want := range map[string]bool{
		"cert-file": true, "peer-cert-file": true, "trusted-ca-file": true,
		"peer-trusted-ca-file": true, "client-ca-file": true, "etcd-cafile": true,
		"etcd-certfile": true, "kubelet-client-certificate": true,
		"proxy-client-cert-file": true, "requestheader-client-ca-file": true, "tls-cert-file": true,
		"key-file": false, "etcd-keyfile": false, "tls-private-key-file": false,
		"service-account-key-file": false, "client-cert-auth": false, "kubelet-client-key": false,
	} {
		if certificateFlag.MatchString(flag) != want {
			t.Errorf("%s: %v", flag, !want)
		}
	}
}
