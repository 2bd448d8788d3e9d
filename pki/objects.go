package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"regexp"
	"slices"
	"strings"
)

// What objects of Kubernetes tell, as they are stored in etcd: texts stand in them as they are,
// whether in protobuf or in JSON.

var (
	inlineCA = regexp.MustCompile(`certificate-authority-data: *"?([A-Za-z0-9+/=]+)`)
	jwt      = regexp.MustCompile(`(eyJ[A-Za-z0-9_-]+)\.eyJ[A-Za-z0-9_-]+\.`)
)

// CAsIn returns the fingerprints of all certificates in a stored object, sorted.
func CAsIn(object []byte) []string {
	object = bytes.ReplaceAll(object, []byte(`\n`), []byte("\n"))
	for _, found := range inlineCA.FindAllSubmatch(object, -1) {
		if text, err := base64.StdEncoding.DecodeString(string(found[1])); err == nil {
			object = append(append(object, '\n'), text...)
		}
	}
	var prints []string
	const begin = "-----BEGIN CERTIFICATE-----"
	for rest := object; ; {
		at := bytes.Index(rest, []byte(begin))
		if at < 0 {
			break
		}
		// A block must begin a line, and in protobuf its length comes before it.
		block, after := pem.Decode(rest[at:])
		if block == nil || len(after) >= len(rest[at:]) {
			rest = rest[at+len(begin):]
			continue
		}
		prints, rest = append(prints, sum(block.Bytes)), after
	}
	slices.Sort(prints)
	return slices.Compact(prints)
}

// TokenKeysIn returns the ids of the keys that signed the tokens of service accounts in a stored
// object.
func TokenKeysIn(object []byte) (ids []string) {
	for _, found := range jwt.FindAllSubmatch(tokens(object), -1) {
		var header struct {
			KeyID string `json:"kid"`
		}
		text, err := base64.RawURLEncoding.DecodeString(string(found[1]))
		if err == nil && json.Unmarshal(text, &header) == nil && header.KeyID != "" {
			ids = append(ids, header.KeyID)
		}
	}
	return ids
}

// tokens adds the text of a token that is in base64, as in a Secret in JSON.
func tokens(object []byte) []byte {
	const inBase64 = "ZXlK" // eyJ
	if at := bytes.Index(object, []byte(inBase64)); at >= 0 {
		end := at
		for end < len(object) && isBase64(object[end]) {
			end++
		}
		if text, err := base64.StdEncoding.DecodeString(string(object[at:end])); err == nil {
			return append(slices.Clone(object), text...)
		}
	}
	return object
}

func isBase64(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '+' || b == '/' || b == '='
}

// KeyIDs returns the ids of the keys in a file of --service-account-key-file, as the API server
// writes them into tokens (k8s.io/kubernetes, pkg/serviceaccount: keyIDFromPublicKey).
func KeyIDs(file []byte) (ids []string) {
	add := func(key any) {
		if der, err := x509.MarshalPKIXPublicKey(key); err == nil {
			hash := sha256.Sum256(der)
			ids = append(ids, base64.RawURLEncoding.EncodeToString(hash[:]))
		}
	}
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "PUBLIC KEY", "RSA PUBLIC KEY":
			der, ok := canonical(block)
			if key, err := x509.ParsePKIXPublicKey(der); ok && err == nil {
				add(key)
			}
		case "CERTIFICATE":
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
				add(cert.PublicKey)
			}
		default: // a private key says which its public one is
			if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
				continue
			}
			if key, err := parseKey("", pem.EncodeToMemory(block)); err == nil {
				add(key.Public())
			}
		}
	}
	return ids
}
