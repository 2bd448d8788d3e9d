package pki

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// The types follow EncryptionConfiguration in
// k8s.io/apiserver/pkg/apis/apiserver/v1/types_encryption.go.
type (
	encryptionConfiguration struct {
		APIVersion string                  `json:"apiVersion"`
		Kind       string                  `json:"kind"`
		Resources  []resourceConfiguration `json:"resources"`
	}
	resourceConfiguration struct {
		Resources []string                `json:"resources"`
		Providers []providerConfiguration `json:"providers"`
	}
	providerConfiguration struct {
		AESGCM    *keysConfiguration `json:"aesgcm"`
		AESCBC    *keysConfiguration `json:"aescbc"`
		Secretbox *keysConfiguration `json:"secretbox"`
		Identity  *struct{}          `json:"identity"`
		KMS       *kmsConfiguration  `json:"kms"`
	}
	keysConfiguration struct {
		Keys []struct {
			Name   string `json:"name"`
			Secret string `json:"secret"`
		} `json:"keys"`
	}
	kmsConfiguration struct {
		APIVersion string `json:"apiVersion"`
		Name       string `json:"name"`
		CacheSize  *int32 `json:"cachesize"`
		Endpoint   string `json:"endpoint"`
		Timeout    string `json:"timeout"`
	}
)

// encryptedPrefix begins every encrypted value; the API server refuses to read such a value as
// plain (storage/value/encrypt/identity).
const encryptedPrefix = "k8s:enc:"

// maxConfiguration bounds what is parsed, in bytes.
const maxConfiguration = 1 << 20

// Encryption is what an API server with an encryption configuration can read from etcd. It holds
// the names of keys, never the keys. The zero value is an API server without a configuration: it
// reads only plain values.
type Encryption struct {
	// By resource, as the configuration names it; "" stands for plain values.
	prefixes map[string][]string
}

// ParseEncryption reads an EncryptionConfiguration (apiserver.config.k8s.io/v1) as strictly as the
// API server does: unknown fields, duplicate keys and providers that it would not start with are
// errors. Errors never quote a secret.
func ParseEncryption(b []byte) (Encryption, error) {
	e, err := parseEncryption(b)
	if err != nil {
		return Encryption{}, fmt.Errorf("cannot read the encryption configuration: %w", err)
	}
	return e, nil
}

func parseEncryption(b []byte) (Encryption, error) {
	if len(b) > maxConfiguration {
		return Encryption{}, fmt.Errorf("it has %d bytes, more than %d", len(b), maxConfiguration)
	}
	text, err := yaml.YAMLToJSONStrict(b)
	if err != nil {
		return Encryption{}, err
	}
	var c encryptionConfiguration
	strict, err := json.UnmarshalStrict(text, &c)
	if err := errors.Join(append(strict, err)...); err != nil {
		return Encryption{}, err
	}
	if c.APIVersion != "apiserver.config.k8s.io/v1" || c.Kind != "EncryptionConfiguration" {
		return Encryption{}, fmt.Errorf("it is a %q of %q, not an EncryptionConfiguration of "+
			"apiserver.config.k8s.io/v1",
			c.Kind, c.APIVersion)
	}
	if len(c.Resources) == 0 {
		return Encryption{}, errors.New("it names no resources")
	}
	e := Encryption{prefixes: map[string][]string{}}
	for i, r := range c.Resources {
		if err := e.add(r); err != nil {
			return Encryption{}, fmt.Errorf("resources[%d]: %w", i, err)
		}
	}
	return e, nil
}

func (e Encryption) add(r resourceConfiguration) error {
	if len(r.Resources) == 0 || len(r.Providers) == 0 {
		return errors.New("resources and providers each need at least one entry")
	}
	var prefixes []string
	for i, p := range r.Providers {
		found, err := p.prefixes()
		if err != nil {
			return fmt.Errorf("providers[%d]: %w", i, err)
		}
		prefixes = append(prefixes, found...)
	}
	for _, resource := range r.Resources {
		_, group, _ := strings.Cut(resource, ".")
		for _, earlier := range []string{"*." + group, "*.*"} {
			if _, masked := e.prefixes[earlier]; masked {
				return fmt.Errorf("%s is masked by the earlier %s", resource, earlier)
			}
		}
	}
	for _, resource := range r.Resources {
		e.prefixes[resource] = append(e.prefixes[resource], prefixes...)
	}
	return nil
}

// prefixes follows prefixTransformersAndProbes in
// k8s.io/apiserver/pkg/server/options/encryptionconfig/config.go, and the checks
// in apis/apiserver/validation.
func (p providerConfiguration) prefixes() ([]string, error) {
	var all []string
	kinds := 0
	for _, k := range []struct {
		name  string
		keys  *keysConfiguration
		sizes []int
	}{
		{"aesgcm", p.AESGCM, []int{16, 24, 32}}, {"aescbc", p.AESCBC, []int{16, 24, 32}},
		{"secretbox", p.Secretbox, []int{32}},
	} {
		if k.keys == nil {
			continue
		}
		kinds++
		names, err := k.keys.names(k.sizes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		for _, name := range names {
			all = append(all, encryptedPrefix+k.name+":v1:"+name+":")
		}
	}
	if p.Identity != nil {
		kinds++
		all = append(all, "")
	}
	if p.KMS != nil {
		kinds++
		version := p.KMS.version()
		if version != "v1" && version != "v2" {
			return nil, fmt.Errorf("kms: apiVersion is %q, neither v1 nor v2", version)
		}
		if p.KMS.Name == "" || strings.Contains(p.KMS.Name, ":") {
			return nil, fmt.Errorf("kms: %q is not a valid provider name", p.KMS.Name)
		}
		all = append(all, encryptedPrefix+"kms:"+version+":"+p.KMS.Name+":")
	}
	if kinds != 1 {
		return nil, fmt.Errorf("%d providers in one entry, which takes only one of aesgcm, "+
			"aescbc, secretbox, kms and identity", kinds)
	}
	return all, nil
}

func (k *kmsConfiguration) version() string {
	return cmp.Or(k.APIVersion, "v1") // apis/apiserver/v1/defaults.go
}

func (c keysConfiguration) names(sizes []int) ([]string, error) {
	var names []string
	for i, key := range c.Keys {
		secret, err := base64.StdEncoding.DecodeString(key.Secret)
		switch {
		case key.Name == "":
			return nil, fmt.Errorf("keys[%d] has no name", i)
		case err != nil:
			return nil, fmt.Errorf("the secret of key %q is not base64", key.Name)
		case !slices.Contains(sizes, len(secret)):
			return nil, fmt.Errorf("the secret of key %q has %d bytes, not one of %v", key.Name, len(secret), sizes)
		}
		names = append(names, key.Name)
	}
	if len(names) == 0 {
		return nil, errors.New("no keys")
	}
	return names, nil
}

// Prefixes returns the prefixes of encrypted values that are readable for any resource, sorted:
// k8s:enc:<provider>:<version>:<key or KMS name>:
func (e Encryption) Prefixes() []string {
	var all []string
	for _, prefixes := range e.prefixes {
		all = append(all, prefixes...)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(p string) bool { return p == "" })
}

// Covers says whether some resource's providers can read a stored value, given whole or as its
// prefix with the final colon. A value that is not encrypted is always covered: resources
// without an entry are stored plain. Only names of keys can be compared: another key of the
// same name is covered, too.
func (e Encryption) Covers(stored string) bool {
	return !strings.HasPrefix(stored, encryptedPrefix) || reads(e.Prefixes(), stored)
}

// CoversResource says whether the providers of one resource, written as "secrets" or
// "deployments.apps", can read a stored value. An entry for the resource itself takes precedence
// over one for *.<group>, and that over *.*; without any, the value must be plain.
func (e Encryption) CoversResource(resource, stored string) bool {
	for _, name := range entriesOf(resource) {
		if prefixes, ok := e.prefixes[name]; ok {
			return reads(prefixes, stored)
		}
	}
	return !strings.HasPrefix(stored, encryptedPrefix)
}

// entriesOf are the names that a configuration may have a resource under. The first that is there
// counts (transformerFromOverrides in encryptionconfig/config.go).
func entriesOf(resource string) []string {
	_, group, _ := strings.Cut(resource, ".")
	return []string{resource, "*." + group, "*.*"}
}

// providers are those that read a resource; without one, those of all resources.
func (c encryptionConfiguration) providers(resource string) (all []providerConfiguration) {
	if resource == "" {
		for _, r := range c.Resources {
			all = append(all, r.Providers...)
		}
		return all
	}
	for _, name := range entriesOf(resource) {
		for _, r := range c.Resources {
			if slices.Contains(r.Resources, name) {
				all = append(all, r.Providers...)
			}
		}
		if all != nil {
			break
		}
	}
	return all
}

func reads(prefixes []string, stored string) bool {
	plain := !strings.HasPrefix(stored, encryptedPrefix)
	return slices.ContainsFunc(prefixes, func(p string) bool {
		if p == "" {
			return plain
		}
		return strings.HasPrefix(stored, p)
	})
}
