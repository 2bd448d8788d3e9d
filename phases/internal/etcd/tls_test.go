package etcd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority is the test's own CA.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	PEM  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd-ca"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.PEM, _, a.key = a.sign(template)
	block, _ := pem.Decode(a.PEM)
	var err error
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) sign(template *x509.Certificate) (cert, key []byte, private *ecdsa.PrivateKey) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, private
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, private.Public(), by)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), private
}

// leaf issues a certificate for server and client use at an address.
func (a *authority) leaf(address string, until time.Time) (cert, key []byte) {
	cert, key, _ = a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.ParseIP(address)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return cert, key
}

func (s *server) startTLS(a *authority, address string, until time.Time) *server {
	s.t.Helper()
	dir := s.t.TempDir()
	cert, key := a.leaf(address, until)
	for name, data := range map[string][]byte{"ca.crt": a.PEM, "server.crt": cert, "server.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	s.Endpoint = strings.Replace(s.Endpoint, "http:", "https:", 1)
	return s.start("3.7.3", "--client-cert-auth", "--trusted-ca-file", filepath.Join(dir, "ca.crt"),
		"--cert-file", filepath.Join(dir, "server.crt"), "--key-file", filepath.Join(dir, "server.key"))
}

// awaitPort returns when something listens at the client URL.
func (s *server) awaitPort() {
	s.t.Helper()
	_, address, _ := strings.Cut(s.Endpoint, "//")
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return
		}
	}
	s.t.Fatalf("etcd does not listen:\n%s", s.output())
}

func TestWhatIsWrongWithACertificateIsSaidPlainly(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	good := newServer(t, "a").startTLS(ours, "127.0.0.1", later)
	expired := newServer(t, "b").startTLS(ours, "127.0.0.1", past)
	elsewhere := newServer(t, "c").startTLS(ours, "127.0.0.9", later)
	plain := newServer(t, "d").start("3.7.3")
	for _, s := range []*server{good, expired, elsewhere, plain} {
		s.awaitPort()
	}
	cert, key := ours.leaf("127.0.0.1", later)
	oldCert, oldKey := ours.leaf("127.0.0.1", past)
	strangeCert, strangeKey := theirs.leaf("127.0.0.1", later)
	for _, test := range []struct {
		name     string
		endpoint string
		ca       []byte
		cert     []byte
		key      []byte
		want     string // the end of the error
	}{
		{"all good", good.Endpoint, ours.PEM, cert, key, ""},
		{"the server's has expired", expired.Endpoint, ours.PEM,
			cert, key, "the server's certificate has expired, on " + past.UTC().Format(time.RFC3339)},
		{"the server's is for another address", elsewhere.Endpoint,
			ours.PEM, cert, key, "the server's certificate is not valid for 127.0.0.1"},
		{"the server's is of another CA", good.Endpoint, theirs.PEM,
			cert, key, "the server's certificate is not signed by the given CA"},
		{"the client's has expired", good.Endpoint, ours.PEM,
			oldCert, oldKey, "the server rejects the client certificate: expired certificate"},
		{"the client's is of another CA", good.Endpoint, ours.PEM,
			strangeCert, strangeKey, "the server rejects the client certificate: unknown certificate authority"},
		{"the client has none", good.Endpoint, ours.PEM, nil,
			nil, "the server rejects the client certificate: certificate required"},
		{"the key is not the certificate's", good.Endpoint, ours.PEM,
			cert, oldKey, "private key does not match public key"},
		{"the CA is no certificate", good.Endpoint, []byte("nonsense"), cert, key, "the CA holds no PEM certificate"},
		{"the server has no TLS", "https" + strings.TrimPrefix(plain.Endpoint, "http"),
			ours.PEM, cert, key, "it may not speak TLS there"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Dial(t.Context(), Access{Endpoints: []string{test.endpoint},
				CA: test.ca, Cert: test.cert, Key: test.key})
			if test.want != "" {
				if err == nil || !strings.HasSuffix(err.Error(), test.want) {
					t.Errorf("%v, want …%s", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.Ready(t.Context()); err != nil {
				t.Error(err)
			}
			if st := c.Status(t.Context())[0]; st.Err != nil {
				t.Error(st.Err)
			}
			if _, err := Save(t.Context(), c, filepath.Join(t.TempDir(), "snap.db"), nil); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("an endpoint that never answers", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, err = Dial(t.Context(), Access{Endpoints: []string{"https://" + l.Addr().String()},
			CA: ours.PEM, DialTimeout: 300 * time.Millisecond})
		var down *Unreachable
		if !errors.As(err, &down) || down.Reason != "no answer within 300ms" {
			t.Error(err)
		}
	})
}

func TestEndpointsThatAreNoURLsAreRefused(t *testing.T) {
	t.Parallel()
	for _, endpoints := range [][]string{
		nil, {"127.0.0.1:2379"}, {"ftp://127.0.0.1:2379"}, {"https://"}, {"https://127.0.0.1:1", "http://127.0.0.1:1"},
	} {
		if _, err := Dial(t.Context(), Access{Endpoints: endpoints}); err == nil ||
			!strings.HasPrefix(err.Error(), "cannot connect to etcd") {
			t.Errorf("%q: %v", endpoints, err)
		}
	}
}
