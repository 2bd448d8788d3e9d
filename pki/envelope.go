package pki

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"sigs.k8s.io/yaml"
)

// Envelope is a value whose key is sealed: only the plugin of a KMS can open that key.
type Envelope struct {
	Provider string // its name in the configuration
	Version  string // of the plugin's interface: v1 or v2
	Endpoint string // of the plugin, as the configuration names it
	Wait     time.Duration
	// What the plugin is asked to open, with what it said when it sealed it.
	Sealed      []byte
	KeyID       string
	Annotations map[string][]byte

	seed bool // what was sealed is what the key is derived from
	key  string
	data []byte
}

// kmsWait is how long an API server waits for a plugin where the configuration says nothing
// (k8s.io/apiserver, apis/apiserver/v1/defaults.go).
const kmsWait = 3 * time.Second

// EnvelopeOf takes apart a value of a resource as it is stored in etcd under key. ok is false for
// one that no KMS of the configuration has to do with, or that is none at all. As for [Decrypts],
// the resource may be unknown.
func EnvelopeOf(configuration []byte, resource, key string, value []byte) (e Envelope, ok bool) {
	parts := strings.SplitN(string(value[:min(len(value), 512)]), ":", 6)
	if len(parts) < 6 || !strings.HasPrefix(string(value), encryptedPrefix+"kms:") {
		return e, false
	}
	var c encryptionConfiguration
	if err := yaml.Unmarshal(configuration, &c); err != nil {
		return e, false
	}
	e = Envelope{Version: parts[3], Provider: parts[4], Wait: kmsWait, key: key}
	if e.Endpoint, e.Wait = c.kms(resource, e.Provider, e.Version); e.Endpoint == "" {
		return e, false
	}
	stored := value[len(strings.Join(parts[:5], ":"))+1:]
	if e.Version == "v1" {
		return e, e.first(stored)
	}
	return e, e.second(stored) && len(e.Sealed) > 0
}

// kms is where the plugin of a resource's provider listens.
func (c encryptionConfiguration) kms(resource, name, version string) (endpoint string, wait time.Duration) {
	for _, p := range c.providers(resource) {
		if p.KMS == nil || p.KMS.Name != name || p.KMS.version() != version {
			continue
		}
		if d, err := time.ParseDuration(p.KMS.Timeout); err == nil && d > 0 {
			return p.KMS.Endpoint, d
		}
		return p.KMS.Endpoint, kmsWait
	}
	return "", 0
}

// first reads what KMS v1 stores (k8s.io/apiserver, storage/value/encrypt/envelope): the length of
// the sealed key in two bytes, that key, and the value.
func (e *Envelope) first(stored []byte) bool {
	if len(stored) < 2 || len(stored)-2 < int(binary.BigEndian.Uint16(stored)) {
		return false
	}
	end := 2 + int(binary.BigEndian.Uint16(stored))
	e.Sealed, e.data = stored[2:end], stored[end:]
	return true
}

// second reads what KMS v2 stores: EncryptedObject of k8s.io/apiserver,
// storage/value/encrypt/envelope/kmsv2/v2/api.proto.
func (e *Envelope) second(stored []byte) bool {
	return eachField(stored, func(number protowire.Number, one []byte, n uint64) bool {
		switch number {
		case 1:
			e.data = one
		case 2:
			e.KeyID = string(one)
		case 3:
			e.Sealed = one
		case 4:
			return e.annotation(one)
		case 5:
			e.seed = n == 1
			return n <= 1 // another way to derive a key, which is newer than this program
		}
		return true
	})
}

func (e *Envelope) annotation(entry []byte) bool {
	var name string
	var value []byte
	ok := eachField(entry, func(number protowire.Number, one []byte, _ uint64) bool {
		switch number {
		case 1:
			name = string(one)
		case 2:
			value = one
		}
		return true
	})
	if e.Annotations == nil {
		e.Annotations = map[string][]byte{}
	}
	e.Annotations[name] = value
	return ok
}

// eachField reads a message of protobuf whose fields are bytes and numbers.
func eachField(message []byte, each func(number protowire.Number, one []byte, n uint64) bool) bool {
	for len(message) > 0 {
		number, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return false
		}
		message = message[size:]
		var one []byte
		var n uint64
		switch kind {
		case protowire.BytesType:
			one, size = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(message)
		default:
			size = protowire.ConsumeFieldValue(number, kind, message)
		}
		if size < 0 || !each(number, one, n) {
			return false
		}
		message = message[size:]
	}
	return true
}

// sizes of a derived key, and of what it is derived with (storage/value/encrypt/aes,
// aes_extended_nonce.go).
const derived = 32

// OpensWith says whether the value can be read with what the plugin opened.
func (e *Envelope) OpensWith(opened []byte) bool {
	secret, data := opened, e.data
	if e.seed {
		if len(opened) < derived || len(data) < derived {
			return false
		}
		key, err := hkdf.Expand(sha256.New, opened, string(data[:derived]), derived)
		if err != nil {
			return false
		}
		secret, data = key, data[derived:]
	}
	ways := []string{"aesgcm"}
	if e.Version == "v1" {
		ways = []string{"aesgcm", "aescbc"} // CBC is what Kubernetes below 1.27 wrote
	}
	for _, way := range ways {
		if plain, err := open(way, secret, []byte(e.key), bytes.Clone(data)); err == nil && isObject(plain) {
			return true
		}
	}
	return false
}
