package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// issue returns the DER of a self-signed certificate that is valid for the given time after noon.
func issue(t *testing.T, name string, ca bool, life time.Duration) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: noon.Add(-5 * time.Minute), NotAfter: noon.Add(life),
		IsCA: ca, BasicConstraintsValid: true, DNSNames: []string{"cp1", "localhost"},
		IPAddresses: []net.IP{net.ParseIP("10.0.0.11"), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func TestACertificateIsDescribedAtTheGivenTime(t *testing.T) {
	file := encode("CERTIFICATE", issue(t, "etcd-ca", true, 48*time.Hour))
	tests := []struct {
		name                 string
		at                   time.Duration
		days                 int
		expired, notYetValid bool
	}{
		{"two whole days before its end", 0, 2, false, false},
		{"a second into a day rounds down", time.Second, 1, false, false},
		{"on its last day", 47 * time.Hour, 0, false, false},
		{"in its last second", 48 * time.Hour, 0, false, false},
		{"a second after its end", 48*time.Hour + time.Second, -1, true, false},
		{"two days after its end", 97 * time.Hour, -3, true, false},
		{"before its beginning, on a node whose clock is behind", -time.Hour, 2, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Inspect("etcd/ca", file, noon.Add(tt.at))
			if err != nil {
				t.Fatal(err)
			}
			if c.DaysLeft != tt.days || c.Expired != tt.expired || c.NotYetValid != tt.notYetValid {
				t.Errorf("got %+v", c)
			}
			if c.Name != "etcd/ca" || c.Subject != "etcd-ca" ||
				c.Issuer != "etcd-ca" || !c.IsCA || !c.NotAfter.Equal(noon.Add(48*time.Hour)) {
				t.Errorf("got %+v", c)
			}
			if want := []string{"cp1", "localhost", "10.0.0.11", "::1"}; !slices.Equal(c.SANs, want) {
				t.Errorf("SANs are %q, want %q", c.SANs, want)
			}
		})
	}
}

func TestABundleIsDescribedInOrder(t *testing.T) {
	file := slices.Concat(encode("CERTIFICATE", issue(t, "new", true, 48*time.Hour)),
		encode("CERTIFICATE", issue(t, "old", true, time.Hour)))
	all, err := InspectAll("ca", file, noon.Add(2*time.Hour))
	if err != nil || len(all) != 2 || all[0].Subject != "new" ||
		all[0].Expired || all[1].Subject != "old" || !all[1].Expired {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestWhatIsNoCertificateIsAnErrorThatNamesTheFile(t *testing.T) {
	for name, file := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "a key": encode("PRIVATE KEY", []byte{1}),
		"broken DER": encode("CERTIFICATE", []byte{0x30, 1}),
	} {
		if _, err := Inspect("etcd/server", file, noon); err == nil ||
			!strings.Contains(err.Error(), "cannot read certificate etcd/server: ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAFingerprintIsOfTheContentNotTheWriting(t *testing.T) {
	a, b := issue(t, "a", true, time.Hour), issue(t, "b", true, time.Hour)
	pemA, pemB := encode("CERTIFICATE", a), encode("CERTIFICATE", b)
	set := []string{digest(a), digest(b)}
	slices.Sort(set)
	bundle := strings.Join(set, ",")

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	oneLine := "-----BEGIN CERTIFICATE-----\n" + strings.ReplaceAll(strings.Split(string(pemA), "-----")[2], "\n", "") +
		"\n-----END CERTIFICATE-----\n"
	private := encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	cut := slices.Concat(pemA, []byte("-----BEGIN CERTIFICATE-----\nMII"))

	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"a certificate", pemA, digest(a)},
		{"the same in DER", a, digest(a)},
		{"the same with CRLF", bytes.ReplaceAll(pemA, []byte("\n"), []byte("\r\n")), digest(a)},
		{"the same on one line", []byte(oneLine), digest(a)},
		{"the same under a comment", slices.Concat([]byte("subject: a\n"), pemA), digest(a)},
		{"the same twice", slices.Concat(pemA, pemA), digest(a)},
		{"a bundle", slices.Concat(pemA, pemB), bundle},
		{"the bundle in another order", slices.Concat(pemB, pemA), bundle},
		{"a public key", encode("PUBLIC KEY", pkix), digest(pkix)},
		{"the same key in PKCS#1", encode("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&key.PublicKey)), digest(pkix)},
		{"a private key counts as bytes", private, digest(private)},
		{"a certificate with its key counts as bytes", slices.Concat(pemA, private),
			digest(slices.Concat(pemA, private))},
		{"a bundle that was cut off counts as bytes", cut, digest(cut)},
		{"any other file", []byte("kind: X\n"), digest([]byte("kind: X\n"))},
		{"an empty file", nil, digest(nil)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Fingerprint(tt.file); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
