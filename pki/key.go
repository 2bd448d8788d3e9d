package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"k8s.io/client-go/util/keyutil"
)

// Algorithm is the kind and size of a key, as encryptionAlgorithm in kubeadm's
// ClusterConfiguration. Empty is RSA2048.
type Algorithm string

// kubeadm's algorithms.
const (
	RSA2048   Algorithm = "RSA-2048"
	RSA3072   Algorithm = "RSA-3072"
	RSA4096   Algorithm = "RSA-4096"
	ECDSAP256 Algorithm = "ECDSA-P256"
	ECDSAP384 Algorithm = "ECDSA-P384"
)

// NewKey makes a private key. It uses the system's randomness: Go accepts no other for keys.
func NewKey(a Algorithm) (crypto.Signer, error) {
	switch a {
	case RSA2048, "":
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	known := []string{string(RSA2048), string(RSA3072), string(RSA4096), string(ECDSAP256), string(ECDSAP384)}
	return nil, fmt.Errorf("encryptionAlgorithm: %q is not one of %s", a, strings.Join(known, ", "))
}

// KeyPEM is a private key as in its file. It hides itself: printing gives a placeholder,
// and JSON refuses it.
type KeyPEM []byte

// Format writes the placeholder, whatever the verb.
func (KeyPEM) Format(s fmt.State, _ rune) { fmt.Fprint(s, "(private key)") }

// MarshalJSON refuses: JSON ends up in journals and on terminals.
func (KeyPEM) MarshalJSON() ([]byte, error) {
	return nil, errors.New("a private key is not written as JSON")
}

// encodeKey writes a key as kubeadm does: PKCS#1 for RSA, SEC 1 for ECDSA.
func encodeKey(key crypto.Signer) (KeyPEM, error) {
	return keyutil.MarshalPrivateKeyToPEM(key)
}

// parseKey reads the first key of a PEM file, RSA or ECDSA as kubeadm requires. Its errors quote
// nothing from the file.
func parseKey(file string, data []byte) (crypto.Signer, error) {
	key, err := keyutil.ParsePrivateKeyPEM(data)
	if err != nil {
		return nil, fmt.Errorf("cannot read the key %s: it holds no RSA or ECDSA key in PEM without a password", file)
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return k, nil
	case *ecdsa.PrivateKey:
		return k, nil
	}
	return nil, fmt.Errorf("cannot use the key %s: it is neither RSA nor ECDSA", file)
}

// matches says whether a public and a private key belong together.
func matches(public crypto.PublicKey, private crypto.Signer) bool {
	k, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(public)
}

// AlgorithmOf returns the algorithm of a certificate's key; empty if kubeadm has no name for it.
func AlgorithmOf(c *x509.Certificate) Algorithm {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return map[int]Algorithm{2048: RSA2048, 3072: RSA3072, 4096: RSA4096}[k.N.BitLen()]
	case *ecdsa.PublicKey:
		return map[int]Algorithm{256: ECDSAP256, 384: ECDSAP384}[k.Params().BitSize]
	}
	return ""
}
