package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// expired is a certificate that expired long ago, with its key, in PEM.
func expired(t *testing.T) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

// listen accepts until the test ends.
func listen(t *testing.T, each func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); each(c) }()
		}
	}()
	return l.Addr().String()
}

func TestWhatIsServedIsSeenWhateverItIs(t *testing.T) {
	certPEM, keyPEM := expired(t)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		conf *tls.Config
		show bool // the client has a certificate
	}{
		{"a server that asks for nothing", &tls.Config{}, false},
		{"one that wants a certificate, which nobody has", &tls.Config{ClientAuth: tls.RequireAnyClientCert}, false},
		{"the same in TLS 1.2", &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, false},
		{"one that is shown a certificate", &tls.Config{ClientAuth: tls.RequireAnyClientCert}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.conf.Certificates = []tls.Certificate{pair}
			asked := make(chan int, 1)
			at := listen(t, func(c net.Conn) {
				s := tls.Server(c, tt.conf)
				_ = s.Handshake()
				asked <- len(s.ConnectionState().PeerCertificates)
			})
			var shown [2][]byte
			if tt.show {
				shown = [2][]byte{certPEM, keyPEM}
			}
			got, err := Served(t.Context(), at, shown[0], shown[1])
			if err != nil || string(got) != string(certPEM) {
				t.Errorf("got %s, %v", got, err)
			}
			if n := <-asked; (n == 1) != tt.show {
				t.Errorf("%d certificates were shown", n)
			}
		})
	}
}

func TestWhatServesNothingIsToldOf(t *testing.T) {
	closed := listen(t, func(net.Conn) {})
	http := listen(t, func(c net.Conn) {
		_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		_, _ = c.Read(make([]byte, 1))
	})
	for name, tt := range map[string]struct{ at, why string }{
		"nobody":           {"127.0.0.1:1", "nothing listens there"},
		"plain HTTP":       {http, "does not speak TLS"},
		"one who hangs up": {closed, "cannot read the certificate served at " + closed},
	} {
		got, err := Served(t.Context(), tt.at, nil, nil)
		if got != nil || err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
		if errors.Is(err, ErrNoTLS) != (name == "plain HTTP") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
