package pki

import (
	"slices"
	"strings"
	"testing"
)

const (
	secret32 = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	secret16 = "MDEyMzQ1Njc4OWFiY2RlZg=="
)

const configuration = `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, configmaps]
  providers:
  - kms: {apiVersion: v2, name: vault, endpoint: unix:///run/kms.sock, timeout: 3s}
  - aescbc:
      keys:
      - {name: key2, secret: ` + secret32 + `}
      - {name: key1, secret: ` + secret32 + `}
  - secretbox: {keys: [{name: box, secret: ` + secret32 + `}]}
  - identity: {}
- resources: ["*.apps"]
  providers:
  - aesgcm: {keys: [{name: "with:colon", secret: ` + secret16 + `}]}
- resources: ["*.*"]
  providers:
  - kms: {name: old, cachesize: 100, endpoint: unix:///run/old.sock}
  - identity: {}
`

func TestTheConfigurationGivesThePrefixesThatAreStored(t *testing.T) {
	e, err := ParseEncryption([]byte(configuration))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"k8s:enc:aescbc:v1:key1:", "k8s:enc:aescbc:v1:key2:", "k8s:enc:aesgcm:v1:with:colon:",
		"k8s:enc:kms:v1:old:", "k8s:enc:kms:v2:vault:", "k8s:enc:secretbox:v1:box:",
	}
	if got := e.Prefixes(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestAStoredValueIsCoveredByItsKey(t *testing.T) {
	e, err := ParseEncryption([]byte(configuration))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, resource, stored string
		any, own               bool
	}{
		{"a prefix", "secrets", "k8s:enc:aescbc:v1:key1:", true, true},
		{"a whole value", "secrets", "k8s:enc:aescbc:v1:key1:\x00\xff:", true, true},
		{"a key that is gone", "secrets", "k8s:enc:aescbc:v1:key0:", false, false},
		{"a name that only begins like a key's", "secrets", "k8s:enc:aescbc:v1:key12:", false, false},
		{"the same name with another provider", "secrets", "k8s:enc:aesgcm:v1:key1:", false, false},
		{"the same name with another KMS version", "secrets", "k8s:enc:kms:v1:vault:", false, false},
		{"a key's name with a colon", "deployments.apps", "k8s:enc:aesgcm:v1:with:colon:x", true, true},
		{"another resource's key", "secrets", "k8s:enc:aesgcm:v1:with:colon:x", true, false},
		{"a resource under the last wildcard", "leases.coordination.k8s.io", "k8s:enc:kms:v1:old:x", true, true},
		{"KMS without an apiVersion is v1", "events", "k8s:enc:kms:v2:old:x", false, false},
		{"a plain value beside identity", "secrets", "k8s\x00\n", true, true},
		{"a plain value where identity is missing", "deployments.apps", "{}", true, false},
		{"a prefix that was cut short", "secrets", "k8s:enc:aescbc:v1:key1", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := e.Covers(tt.stored); got != tt.any {
				t.Errorf("Covers is %v", got)
			}
			if got := e.CoversResource(tt.resource, tt.stored); got != tt.own {
				t.Errorf("CoversResource is %v", got)
			}
		})
	}
}

func TestWithoutAConfigurationOnlyPlainValuesAreCovered(t *testing.T) {
	var e Encryption
	if !e.Covers("{}") || !e.CoversResource("secrets", "{}") {
		t.Error("a plain value is not covered")
	}
	if e.Covers("k8s:enc:aescbc:v1:k:x") || e.CoversResource("secrets", "k8s:enc:aescbc:v1:k:x") ||
		len(e.Prefixes()) != 0 {
		t.Error("an encrypted value is covered")
	}
}

func TestAConfigurationThatTheAPIServerWouldRefuseIsAnError(t *testing.T) {
	const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n"
	provider := func(p string) string { return head + "resources: [{resources: [secrets], providers: [" + p + "]}]\n" }
	for _, tt := range []struct{ name, text, why string }{
		{"empty", "", "not an EncryptionConfiguration"},
		{"broken YAML", "a: [", "yaml"},
		{"another kind", "apiVersion: v1\nkind: Pod\n", "unknown field|not an EncryptionConfiguration"},
		{"another version", strings.Replace(provider("{identity: {}}"), "/v1", "/v2", 1),
			"not an EncryptionConfiguration"},
		{"no resources", head, "names no resources"},
		{"no providers", head + "resources: [{resources: [secrets]}]\n", "resources and providers each need at least " +
			"one entry"},
		{"an unknown field", provider("{identity: {}}") + "extra: 1\n", "unknown field"},
		{"a field in other letters", provider("{Identity: {}}"), "unknown field"},
		{"a key given twice", head + "kind: EncryptionConfiguration\n", "already set"},
		{"an unknown provider", provider("{rot13: {}}"), "unknown field"},
		{"two providers in one entry", provider("{identity: {}, kms: {name: a, endpoint: b}}"), "2 providers"},
		{"an empty provider", provider("{}"), "0 providers"},
		{"identity with nothing", provider("{identity: }"), "0 providers"},
		{"no keys", provider("{aescbc: {keys: []}}"), "no keys"},
		{"a key without a name", provider("{aescbc: {keys: [{secret: " + secret32 + "}]}}"), "no name"},
		{"a secret of the wrong length", provider("{secretbox: {keys: [{name: a, secret: " + secret16 + "}]}}"),
			"16 bytes"},
		{"a secret that is not base64", provider("{secretbox: {keys: [{name: a, secret: hunter2!}]}}"), "not base64"},
		{"a KMS name with a colon", provider("{kms: {name: 'a:b', endpoint: c}}"), "is not a valid provider name"},
		{"an unknown KMS version", provider("{kms: {name: a, apiVersion: v3, endpoint: c}}"), "neither v1 nor v2"},
		{"an entry that an earlier one masks",
			head + "resources: [{resources: ['*.'], providers: [{identity: {}}]}, {resources: [secrets], providers: " +
				"[{identity: {}}]}]", "masked by the earlier"},
		{"too long", head + strings.Repeat("#", 1<<20), "more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseEncryption([]byte(tt.text))
			if err == nil || !strings.HasPrefix(err.Error(), "cannot read the encryption configuration: ") {
				t.Fatalf("got %v", err)
			}
			if !slices.ContainsFunc(strings.Split(tt.why, "|"), func(s string) bool {
				return strings.Contains(err.Error(), s)
			}) {
				t.Errorf("got %v, want %q", err, tt.why)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), secret16) {
				t.Error("the error quotes a secret")
			}
		})
	}
}

func FuzzParseEncryption(f *testing.F) {
	f.Add([]byte(configuration), "k8s:enc:aescbc:v1:key1:")
	f.Fuzz(func(t *testing.T, b []byte, stored string) {
		e, err := ParseEncryption(b)
		if err != nil {
			return
		}
		for _, p := range e.Prefixes() {
			if !e.Covers(p) || !e.Covers(p+stored) {
				t.Errorf("%q does not cover itself", p)
			}
		}
	})
}
