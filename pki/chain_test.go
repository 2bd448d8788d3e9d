package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/util/cert"
)

var cp1 = Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11", Algorithm: ECDSAP256}

// world is an etcd PKI in memory.
type world struct {
	issuer Issuer
	files  Files
}

func spec(t *testing.T, name string) Spec {
	t.Helper()
	s, err := EtcdSpec(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newWorld makes all certificates at noon.
func newWorld(t *testing.T, c Config) world {
	t.Helper()
	w := world{issuer: Issuer{Config: c, Now: noon}, files: Files{}}
	for _, s := range EtcdSpecs() {
		w.make(t, s)
	}
	return w
}

func (w world) make(t *testing.T, s Spec) {
	t.Helper()
	var p Pair
	var err error
	if s.IsCA() {
		p, err = w.issuer.NewCA(s)
	} else {
		p, err = w.issuer.Issue(s, w.authority(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	w.files[s.CertFile()], w.files[s.KeyFile()] = p.Cert, p.Key
}

func (w world) authority(t *testing.T) Authority {
	t.Helper()
	ca, err := ParseAuthority("etcd/ca.crt", w.files["etcd/ca.crt"], "etcd/ca.key", w.files["etcd/ca.key"])
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func (w world) cert(t *testing.T, base string) *x509.Certificate {
	t.Helper()
	return parsed(t, w.files[base+".crt"])
}

func parsed(t *testing.T, file []byte) *x509.Certificate {
	t.Helper()
	all, err := cert.ParseCertsPEM(file)
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

func (w world) pool(t *testing.T) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(w.cert(t, "etcd/ca"))
	return pool
}

func TestEveryAlgorithmGivesChainsThatHold(t *testing.T) {
	for _, a := range []Algorithm{"", RSA2048, RSA3072, RSA4096, ECDSAP256, ECDSAP384} {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			w := world{
				issuer: Issuer{Config: Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11", Algorithm: a}, Now: noon},
				files:  Files{},
			}
			w.make(t, spec(t, "etcd-ca"))
			s := spec(t, "etcd-server")
			w.make(t, s)
			if _, err := w.cert(t, s.Base).Verify(x509.VerifyOptions{Roots: w.pool(t),
				CurrentTime: noon, KeyUsages: s.Usages}); err != nil {
				t.Error(err)
			}
			if _, err := tls.X509KeyPair(w.files[s.CertFile()], w.files[s.KeyFile()]); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnAlgorithmThatKubeadmDoesNotKnowIsAnError(t *testing.T) {
	for _, a := range []Algorithm{"RSA", "rsa-2048", "Ed25519", "ECDSA-P521"} {
		if _, err := NewKey(a); err == nil ||
			!strings.Contains(err.Error(), "is not one of RSA-2048, RSA-3072, RSA-4096, ECDSA-P256, ECDSA-P384") {
			t.Errorf("%s: %v", a, err)
		}
	}
}

// serve is a server like etcd: it requires a certificate signed by its CA.
func (w world) serve(t *testing.T) string {
	t.Helper()
	pair, err := tls.X509KeyPair(w.files["etcd/server.crt"], w.files["etcd/server.key"])
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs: w.pool(t), Time: func() time.Time { return noon },
	})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				if c.(*tls.Conn).Handshake() == nil {
					io.WriteString(c, "hello")
				}
			})
		}
	})
	return l.Addr().String()
}

// visit connects with a certificate, or with none, and returns why the server would not talk.
func (w world) visit(t *testing.T, at, server string, pair *Pair, when time.Time) error {
	t.Helper()
	c := &tls.Config{RootCAs: w.pool(t), ServerName: server, Time: func() time.Time { return when }}
	if pair != nil {
		p, err := tls.X509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		// Whatever the server asks for.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &p, nil }
	}
	conn, err := tls.Dial("tcp", at, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	said, err := io.ReadAll(conn)
	if err == nil && string(said) != "hello" {
		err = fmt.Errorf("the server said %q", said)
	}
	return err
}

func (w world) pair(base string) *Pair {
	return &Pair{Cert: w.files[base+".crt"], Key: w.files[base+".key"]}
}

func TestAServerThatAsksForCertificatesTakesThoseOfItsCAOnly(t *testing.T) {
	w, stranger := newWorld(t, cp1), newWorld(t, cp1)
	at := w.serve(t)
	for _, name := range []string{"localhost", "cp1", "127.0.0.1", "10.0.0.11", "::1"} {
		for _, client := range []string{
			"apiserver-etcd-client", "etcd/healthcheck-client", "etcd/peer", "etcd/server",
		} {
			if err := w.visit(t, at, name, w.pair(client), noon); err != nil {
				t.Errorf("%s to %s: %v", client, name, err)
			}
		}
	}
	old := w
	old.issuer.Now = noon.Add(-2 * DefaultValidity)
	expired, err := old.issuer.Issue(spec(t, "apiserver-etcd-client"), w.authority(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string]*Pair{
		"nobody":               nil,
		"one of another CA":    stranger.pair("apiserver-etcd-client"),
		"one that has expired": &expired,
	} {
		if err := w.visit(t, at, "cp1", pair, noon); err == nil {
			t.Errorf("%s was let in", name)
		}
	}
	if err := w.visit(t, at, "cp2", w.pair("etcd/peer"), noon); err == nil {
		t.Error("the server was taken for another node")
	}
	if err := stranger.visit(t, at, "cp1", w.pair("etcd/peer"), noon); err == nil {
		t.Error("the server was taken for one of another CA")
	}
}

func TestARequestAsksForWhatAnExternalCAMustSign(t *testing.T) {
	i := Issuer{
		Config: Config{NodeName: "cp1", AdvertiseAddress: "10.0.0.11",
			PeerCertSANs: []string{"peer.example"}, Algorithm: ECDSAP256}, Now: noon,
	}
	ca, err := i.NewCA(spec(t, "etcd-ca"))
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ParseAuthority("ca.crt", ca.Cert, "ca.key", ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range EtcdSpecs()[1:] {
		r, err := i.Request(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		block, rest := pem.Decode(r.CSR)
		if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) > 0 {
			t.Fatalf("%s: %q", s.Name, r.CSR)
		}
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err == nil {
			err = csr.CheckSignature()
		}
		if err != nil {
			t.Fatal(err)
		}
		key, err := parseKey("key", r.Key)
		if err != nil || !matches(csr.PublicKey, key) {
			t.Errorf("%s: the key is not that of the request: %v", s.Name, err)
		}
		issued, err := i.Issue(s, authority)
		if err != nil {
			t.Fatal(err)
		}
		c := parsed(t, issued.Cert)
		if csr.Subject.String() != c.Subject.String() {
			t.Errorf("%s: asks for %s", s.Name, csr.Subject)
		}
		// The names and the extended key usage: exactly the certificate's bytes.
		for _, id := range []string{"2.5.29.17", "2.5.29.37"} {
			if got, want := extension(csr.Extensions, id), extension(c.Extensions, id); got != want {
				t.Errorf("%s: extension %s is %x, want %x", s.Name, id, got, want)
			}
		}
	}
	if _, err := i.Request(spec(t, "etcd-ca"), nil); err == nil {
		t.Error("a CA was asked for")
	}
}

func TestWhatIsPrintedShowsNoKey(t *testing.T) {
	w := newWorld(t, cp1)
	pair := *w.pair("etcd/server")
	r, err := w.issuer.Request(spec(t, "etcd-peer"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{pair.Key, pair, &pair, r, []Pair{pair}, map[string]Pair{"a": pair}} {
			if s := fmt.Sprintf(verb, v); !strings.Contains(s, "(private key)") ||
				strings.Contains(s, string(pair.Key[40:60])) {
				t.Errorf("%s of %T shows %s", verb, v, s)
			}
		}
	}
	secret := strings.Split(string(w.files["etcd/server.key"]), "\n")[1]
	broken := []byte(strings.Replace(string(w.files["etcd/server.key"]), "PRIVATE", "PRIVAT", 1))
	for _, err := range []error{
		second(parseKey("a.key", broken)), second(parseKey("a.key", []byte(secret))),
		second(ParseAuthority("ca.crt", w.files["etcd/ca.crt"], "ca.key", w.files["etcd/server.key"])),
	} {
		if err == nil || strings.Contains(err.Error(), secret[:20]) {
			t.Errorf("got %v", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
