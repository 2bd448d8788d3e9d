package pki

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/nacl/secretbox"
	"sigs.k8s.io/yaml"
)

// ErrNotTried says that a value is encrypted by something that has its keys elsewhere, as KMS.
var ErrNotTried = errors.New("its key is not in the configuration")

// Decrypts tries whether an encryption configuration can read a value as it is stored in etcd under
// key: nil says that it can, [ErrNotTried] that only another program could tell. Nothing of the
// value or of a key is in an error.
func Decrypts(configuration []byte, key string, value []byte) error {
	parts := strings.SplitN(string(value[:min(len(value), 512)]), ":", 6)
	if len(parts) < 6 || parts[0]+":"+parts[1]+":" != encryptedPrefix {
		return ErrNotTried
	}
	provider, name := parts[2], parts[4]
	prefix := strings.Join(parts[:5], ":") + ":"
	var c encryptionConfiguration
	if err := yaml.Unmarshal(configuration, &c); err != nil {
		return fmt.Errorf("cannot read the encryption configuration: %w", err)
	}
	tried := false
	for _, secret := range c.secrets(provider, name) {
		tried = true
		if plain, err := open(provider, secret, []byte(key), value[len(prefix):]); err == nil && isObject(plain) {
			return nil
		}
	}
	if !tried {
		return ErrNotTried
	}
	return fmt.Errorf("key %q of %s is not the one that %s was encrypted with", name, provider, key)
}

// secrets are all keys of a name, of all resources: which of them is used for a value, the API
// server decides by trying.
func (c encryptionConfiguration) secrets(provider, name string) (all [][]byte) {
	for _, r := range c.Resources {
		for _, p := range r.Providers {
			keys := map[string]*keysConfiguration{
				"aesgcm": p.AESGCM, "aescbc": p.AESCBC, "secretbox": p.Secretbox}[provider]
			if keys == nil {
				continue
			}
			for _, k := range keys.Keys {
				if secret, err := base64.StdEncoding.DecodeString(k.Secret); err == nil && k.Name == name {
					all = append(all, secret)
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

// isObject says whether decrypted bytes are an object: CBC cannot tell a wrong key by itself.
func isObject(plain []byte) bool {
	return bytes.HasPrefix(plain, []byte("k8s\x00")) || bytes.HasPrefix(bytes.TrimSpace(plain), []byte("{"))
}
