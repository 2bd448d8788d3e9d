package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"strings"
)

// Fingerprint identifies what a file holds, not how it is written. Of PEM certificates and public
// keys it is the SHA-256, in hex, of the DER (of a public key always in PKIX form): it stays the
// same when a file is re-wrapped, commented or converted to DER. Several in one file, as in a CA
// bundle, give the sorted set, joined by commas. For any other file, including private keys, it is
// the SHA-256 of the bytes.
func Fingerprint(b []byte) string {
	var prints []string
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(prints) == 0 || bytes.Contains(rest, []byte("-----BEGIN")) {
				return sum(b)
			}
			break
		}
		der, ok := canonical(block)
		if !ok {
			return sum(b)
		}
		prints = append(prints, sum(der))
	}
	slices.Sort(prints)
	return strings.Join(slices.Compact(prints), ",")
}

func canonical(block *pem.Block) ([]byte, bool) {
	switch block.Type {
	case "CERTIFICATE", "PUBLIC KEY":
		return block.Bytes, true
	case "RSA PUBLIC KEY":
		key, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, false
		}
		der, err := x509.MarshalPKIXPublicKey(key)
		return der, err == nil
	}
	return nil, false
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
