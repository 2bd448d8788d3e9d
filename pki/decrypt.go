package pki

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"
	"sigs.k8s.io/yaml"
)

// ErrNotTried says that a value is encrypted by something that has its keys elsewhere, as KMS.
var ErrNotTried = errors.New("its key is not in the configuration")

// Decrypts tries whether an encryption configuration can read a value of a resource as it is stored
// in etcd under key: nil says that it can, [ErrNotTried] that only another program could tell. A
// resource is written as "secrets" or "deployments.apps"; without one, the keys of all are tried.
// Nothing of the value or of a key is in an error.
func Decrypts(configuration []byte, resource, key string, value []byte) error {
	var c encryptionConfiguration
	if err := yaml.Unmarshal(configuration, &c); err != nil {
		return fmt.Errorf("cannot read the encryption configuration: %w", err)
	}
	named := ""
	for _, s := range c.secrets(resource) {
		sealed, fits := bytes.CutPrefix(value, []byte(encryptedPrefix+s.provider+":v1:"+s.name+":"))
		if !fits {
			continue
		}
		named = s.name
		if plain, err := open(s.provider, s.secret, []byte(key), sealed); err == nil && isObject(plain) {
			return nil
		}
	}
	if named == "" {
		return ErrNotTried
	}
	return fmt.Errorf("key %q of %s is not the one that %s was encrypted with", named, providerOf(value), key)
}

func providerOf(value []byte) string {
	provider, _, _ := bytes.Cut(bytes.TrimPrefix(value, []byte(encryptedPrefix)), []byte(":"))
	return string(provider)
}

// localKey is a key that stands in the configuration.
type localKey struct {
	provider, name string
	secret         []byte
}

// secrets are the keys of a resource: which of those that have the right name was used for a value,
// the API server finds out by trying them.
func (c encryptionConfiguration) secrets(resource string) (all []localKey) {
	for _, p := range c.providers(resource) {
		for provider, keys := range map[string]*keysConfiguration{
			"aesgcm": p.AESGCM, "aescbc": p.AESCBC, "secretbox": p.Secretbox} {
			if keys == nil {
				continue
			}
			for _, k := range keys.Keys {
				if secret, err := base64.StdEncoding.DecodeString(k.Secret); err == nil {
					all = append(all, localKey{provider, k.Name, secret})
				}
			}
		}
	}
	return all
}

var errCannotOpen = errors.New("it cannot be decrypted")

// open follows the transformers in k8s.io/apiserver, storage/value/encrypt.
func open(provider string, secret, key, sealed []byte) ([]byte, error) {
	if provider == "secretbox" {
		var box [32]byte
		var nonce [24]byte
		if copy(box[:], secret) < len(box) || copy(nonce[:], sealed) < len(nonce) {
			return nil, errCannotOpen
		}
		plain, ok := secretbox.Open(nil, sealed[len(nonce):], &nonce, &box)
		if !ok {
			return nil, errCannotOpen
		}
		return plain, nil
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	if provider == "aesgcm" {
		gcm, err := cipher.NewGCM(block)
		if err != nil || len(sealed) < gcm.NonceSize() {
			return nil, errCannotOpen
		}
		return gcm.Open(nil, sealed[:gcm.NonceSize()], sealed[gcm.NonceSize():], key)
	}
	if len(sealed) < 2*aes.BlockSize || len(sealed)%aes.BlockSize != 0 {
		return nil, errCannotOpen
	}
	plain := make([]byte, len(sealed)-aes.BlockSize)
	cipher.NewCBCDecrypter(block, sealed[:aes.BlockSize]).CryptBlocks(plain, sealed[aes.BlockSize:])
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > aes.BlockSize {
		return nil, errCannotOpen
	}
	return plain[:len(plain)-padding], nil
}

// isObject says whether decrypted bytes are an object, in protobuf, JSON or CBOR: CBC cannot tell a
// wrong key by itself.
func isObject(plain []byte) bool {
	return bytes.HasPrefix(plain, []byte("k8s\x00")) || bytes.HasPrefix(bytes.TrimSpace(plain), []byte("{")) ||
		bytes.HasPrefix(plain, []byte("\xd9\xd9\xf7"))
}
