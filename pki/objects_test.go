package pki

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"testing"

	"crypto/x509"

	"golang.org/x/crypto/nacl/secretbox"
)

const encryptionText = `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - %s:
      keys:
      - {name: new, secret: %s}
      - {name: old, secret: %s}
  - kms: {apiVersion: v2, name: vault, endpoint: unix:///kms.sock}
  - identity: {}
`

// seal encrypts as the API server does, under a fixed nonce.
func seal(t *testing.T, provider string, secret, key, plain []byte) []byte {
	t.Helper()
	if provider == "secretbox" {
		var box [32]byte
		var nonce [24]byte
		copy(box[:], secret)
		return secretbox.Seal(nonce[:], plain, &nonce, &box)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		t.Fatal(err)
	}
	if provider == "aesgcm" {
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		nonce := make([]byte, gcm.NonceSize())
		return gcm.Seal(nonce, nonce, plain, key)
	}
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	plain = append(slices.Clone(plain), bytes.Repeat([]byte{byte(padding)}, padding)...)
	sealed := make([]byte, aes.BlockSize+len(plain))
	cipher.NewCBCEncrypter(block, sealed[:aes.BlockSize]).CryptBlocks(sealed[aes.BlockSize:], plain)
	return sealed
}

func TestAKeyOfTheRightNameIsTriedOnAValue(t *testing.T) {
	const key = "/registry/secrets/default/one"
	secret := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	in64 := func(b byte) string { return base64.StdEncoding.EncodeToString(secret(b)) }
	for _, provider := range []string{"aescbc", "aesgcm", "secretbox"} {
		value := append(fmt.Appendf(nil, "k8s:enc:%s:v1:old:", provider),
			seal(t, provider, secret(1), []byte(key), []byte("k8s\x00 a secret of the cluster"))...)
		config := fmt.Appendf(nil, encryptionText, provider, in64(2), in64(1))
		if err := Decrypts(config, "secrets", key, value); err != nil {
			t.Errorf("%s: %v", provider, err)
		}
		// A key of the same name, which is another one.
		if err := Decrypts(config, "pods", key, value); !errors.Is(err, ErrNotTried) {
			t.Errorf("%s, a resource that has no keys: %v", provider, err)
		}
		err := Decrypts(fmt.Appendf(nil, encryptionText, provider, in64(1), in64(3)), "secrets", key, value)
		if err == nil || errors.Is(err, ErrNotTried) {
			t.Errorf("%s, another key of its name: %v", provider, err)
		}
		for _, cut := range []int{1, 17, len(value) - 1} {
			_ = Decrypts(config, "", key, value[:cut])
		}
	}
	kms := []byte("k8s:enc:kms:v2:vault:something")
	err := Decrypts(fmt.Appendf(nil, encryptionText, "aescbc", in64(2), in64(1)), "", key, kms)
	if !errors.Is(err, ErrNotTried) {
		t.Errorf("KMS: %v", err)
	}
}

func TestTheCAsAndTheKeysOfTokensInObjectsAreFound(t *testing.T) {
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("the DER of a CA")})
	want := []string{Fingerprint(cert)}
	for name, object := range map[string][]byte{
		"protobuf": append(append([]byte("k8s\x00\n\x0fca.crt\x12\x80\x01"), cert...), "\x1a\x00"...),
		"JSON":     []byte(`{"data":{"ca.crt":"` + string(bytes.ReplaceAll(cert, []byte("\n"), []byte(`\n`))) + `"}}`),
		"a kubeconfig": []byte("k8s\x00clusters:\n- cluster:\n    certificate-authority-data: " +
			base64.StdEncoding.EncodeToString(cert) + "\n    server: https://x"),
	} {
		if got := CAsIn(object); !slices.Equal(got, want) {
			t.Errorf("%s: %v, and not %v", name, got, want)
		}
	}
	if got := CAsIn([]byte("-----BEGIN CERTIFICATE-----\nnothing")); len(got) != 0 {
		t.Errorf("%v", got)
	}
	key, err := NewKey(ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	private, keyErr := encodeKey(key)
	if err != nil || keyErr != nil {
		t.Fatal(err, keyErr)
	}
	ids := KeyIDs(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if again := KeyIDs(private); len(ids) != 1 || !slices.Equal(ids, again) {
		t.Fatalf("%v and %v", ids, again)
	}
	encode := base64.RawURLEncoding.EncodeToString
	token := encode([]byte(`{"alg":"ES256","kid":"`+ids[0]+`"}`)) + "." + encode([]byte(`{"iss":"x"}`)) + ".c2ln"
	for name, object := range map[string]string{"protobuf": "k8s\x00\x0a\x05token\x12" + token,
		"JSON": `{"data":{"token":"` + base64.StdEncoding.EncodeToString([]byte(token)) + `"}}`} {
		if got := TokenKeysIn([]byte(object)); !slices.Equal(got, ids) {
			t.Errorf("%s: %v, and not %v", name, got, ids)
		}
	}
}
