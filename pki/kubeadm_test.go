package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// fields returns all of a certificate except its serial number, keys and times; of the times,
// how long it is valid.
func fields(c *x509.Certificate) []string {
	all := []string{
		fmt.Sprintf("version %d, %v, %v", c.Version, c.SignatureAlgorithm, c.PublicKeyAlgorithm),
		fmt.Sprintf("key of %d bits", bits(c)),
		fmt.Sprintf("subject %x", c.RawSubject),
		fmt.Sprintf("issuer %x", c.RawIssuer),
		fmt.Sprintf("valid for %v", c.NotAfter.Sub(c.NotBefore)),
		fmt.Sprintf("%d extensions", len(c.Extensions)),
	}
	for _, e := range c.Extensions {
		value := fmt.Sprintf("%x", e.Value)
		if id := e.Id.String(); id == "2.5.29.14" || id == "2.5.29.35" { // key identifiers
			value = fmt.Sprintf("%d bytes", len(e.Value))
		}
		all = append(all, fmt.Sprintf("extension %v, critical %v: %s", e.Id, e.Critical, value))
	}
	return all
}

func bits(c *x509.Certificate) int {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen()
	case *ecdsa.PublicKey:
		return k.Params().BitSize
	}
	return 0
}

func extension(all []pkix.Extension, id string) string {
	for _, e := range all {
		if e.Id.String() == id {
			return string(e.Value)
		}
	}
	return ""
}

func firstLine(b []byte) []byte {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return line
}

func TestKeysAreWrittenAsKubeadmWritesThem(t *testing.T) {
	for a, begin := range map[Algorithm]string{
		RSA2048:   "-----BEGIN RSA PRIVATE KEY-----",
		ECDSAP256: "-----BEGIN EC PRIVATE KEY-----",
		ECDSAP384: "-----BEGIN EC PRIVATE KEY-----",
	} {
		key, err := NewKey(a)
		if err != nil {
			t.Fatal(err)
		}
		text, err := encodeKey(key)
		if err != nil || string(firstLine(text)) != begin {
			t.Errorf("%s: %s, %v", a, firstLine(text), err)
		}
		if back, err := parseKey("a.key", text); err != nil || !matches(back.Public(), key) {
			t.Errorf("%s: it does not come back: %v", a, err)
		}
	}
}

func TestCertificatesAreDatedBackAndKeyIdentifiersLinkThem(t *testing.T) {
	w := newWorld(t, cp1)
	ca := w.cert(t, "etcd/ca")
	if !ca.NotBefore.Equal(noon.Add(-5*time.Minute)) || !ca.NotAfter.Equal(noon.Add(DefaultCAValidity)) ||
		len(ca.SubjectKeyId) == 0 {
		t.Errorf("the CA is valid from %v to %v, and its key is %x", ca.NotBefore, ca.NotAfter, ca.SubjectKeyId)
	}
	for _, s := range EtcdSpecs()[1:] {
		c := w.cert(t, s.Base)
		if !c.NotBefore.Equal(noon.Add(-5*time.Minute)) || !c.NotAfter.Equal(noon.Add(DefaultValidity)) ||
			!bytes.Equal(c.AuthorityKeyId, ca.SubjectKeyId) {
			t.Errorf("%s is valid from %v to %v, of the CA %x", s.Name, c.NotBefore, c.NotAfter, c.AuthorityKeyId)
		}
	}
}

func TestTheTableHasKubeadmsFiles(t *testing.T) {
	var files []string
	for _, s := range EtcdSpecs() {
		files = append(files, s.CertFile(), s.KeyFile())
	}
	want := []string{
		"etcd/ca.crt", "etcd/ca.key", "etcd/server.crt", "etcd/server.key", "etcd/peer.crt", "etcd/peer.key",
		"etcd/healthcheck-client.crt", "etcd/healthcheck-client.key",
		"apiserver-etcd-client.crt", "apiserver-etcd-client.key",
	}
	if !slices.Equal(files, want) {
		t.Errorf("got %q", files)
	}
	for _, name := range []string{"etcd-server", "etcd/server"} {
		if s := spec(t, name); s.CSRFile() != "etcd/server.csr" {
			t.Errorf("%s is %+v", name, s)
		}
	}
	if _, err := EtcdSpec("apiserver"); err == nil || !strings.Contains(err.Error(), "etcd-healthcheck-client") {
		t.Errorf("got %v", err)
	}
}

func TestNamesThatKubeadmWouldRefuseAreErrors(t *testing.T) {
	c := Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11",
		ServerCertSANs: []string{"ok", "Capital", "under_score", "", "10.0.0.0/8", "a:2379", "*"}}
	_, err := c.Names(spec(t, "etcd-server"))
	for _, name := range c.ServerCertSANs[1:] {
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("serverCertSANs: %q", name)) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), `"ok"`) {
		t.Error(err)
	}
	if n, err := c.Names(spec(t, "etcd-peer")); err != nil ||
		strings.Join(n.Strings(), " ") != "cp1 localhost 10.0.0.11 127.0.0.1 ::1" {
		t.Errorf("got %v, %v", n.Strings(), err)
	}
	for _, address := range []string{"", "cp1", "10.0.0", "10.0.0.11:2379"} {
		if _, err := (Config{NodeName: "cp1", AdvertiseAddress: address}).Names(spec(t, "etcd-peer")); err == nil {
			t.Errorf("the address %q was taken", address)
		}
	}
	if n, err := (Config{NodeName: "cp1", AdvertiseAddress: "010.000.000.011"}).Names(
		spec(t, "etcd-peer")); err != nil || !n.IPs[0].Equal(net.IPv4(10, 0, 0, 11)) {
		t.Errorf("leading zeros, which kubeadm takes: %v, %v", n, err)
	}
}

func TestWhatCannotBeMadeIsAnError(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config Config
		why    string
	}{
		{"no node name", Config{AdvertiseAddress: "10.0.0.11", Algorithm: ECDSAP256}, "the node's name is empty"},
		{"no address", Config{NodeName: "cp1", Algorithm: ECDSAP256}, "is not an IP address"},
		{"a life that has ended", Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11",
			Algorithm: ECDSAP256, Validity: -time.Hour}, "valid for -1h"},
		{"an unknown algorithm", Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11", Algorithm: "DSA"},
			"is not one of RSA-2048"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ca := newWorld(t, cp1).authority(t)
			_, err := Issuer{Config: tt.config, Now: noon}.Issue(spec(t, "etcd-server"), ca)
			if err == nil || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("got %v", err)
			}
		})
	}
}
