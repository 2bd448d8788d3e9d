package restore

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// encrypts is an encryption configuration: its lines are resources, and their providers, each the
// name and the secret of a key, or identity.
func encrypts(lines ...string) string {
	text := "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
	for _, line := range lines {
		resources, providers, _ := strings.Cut(line, " | ")
		text += "- resources: ['" + strings.ReplaceAll(resources, " ", "', '") + "']\n  providers:\n"
		for _, p := range strings.Fields(providers) {
			name, secret, _ := strings.Cut(p, "=")
			if name == "identity" {
				text += "  - identity: {}\n"
				continue
			}
			text += "  - aesgcm: {keys: [{name: '" + name + "', secret: " + in64(secret) + "}]}\n"
		}
	}
	return text
}

func in64(secret string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(secret, 32)))
}

// stored are objects of a resource as an API server stores them: encrypted with a key, or plain
// without one.
func stored(t *testing.T, resource, name, secret string) snapfile.Stored {
	t.Helper()
	s := snapfile.Stored{Resource: resource, Objects: 7}
	if name == "" {
		return s
	}
	block, err := aes.NewCipher([]byte(strings.Repeat(secret, 32)))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce, key := make([]byte, gcm.NonceSize()), "/registry/"+resource+"/a/one"
	prefix := "k8s:enc:aesgcm:v1:" + name + ":"
	s.Prefix = strings.Join(strings.SplitAfter(prefix, ":")[:5], "") // as far as a snapshot tells
	s.Sample = &snapfile.Sample{Key: key,
		Value: append([]byte(prefix), gcm.Seal(nonce, nonce, []byte("k8s\x00 an object"), []byte(key))...)}
	return s
}

// By the API server's rule: the first entry for the resource counts, or for its group, or for all;
// what is plain is read through identity only; what has no entry is plain.
func TestEachResourceIsReadWithItsOwnProviders(t *testing.T) {
	custom := func(s snapfile.Stored) snapfile.Stored {
		s.Custom = true
		return s
	}
	for name, c := range map[string]struct {
		config []string
		holds  snapfile.Stored
		says   string
	}{
		"its key": {[]string{"secrets | key1=A"}, stored(t, "secrets", "key1", "A"), ""},
		"its key is among another resource's": {[]string{"configmaps | key1=A", "secrets | key2=B identity"},
			stored(t, "secrets", "key1", "A"), "aesgcm:v1:key1: (secrets: 7), but /etc/kubernetes/enc/enc.yaml"},
		"it has no entry, and another has its key": {[]string{"configmaps | key1=A"},
			stored(t, "secrets", "key1", "A"), "does not hold their keys for these resources"},
		"another resource has the right key of that name": {[]string{"secrets | key1=B", "configmaps | key1=A"},
			stored(t, "secrets", "key1", "A"), "is not the one that /registry/secrets/a/one was encrypted with"},
		"each has another key of that name": {[]string{"secrets | key1=A", "configmaps | key1=B"},
			stored(t, "configmaps", "key1", "B"), ""},
		"the old key is the second of its name": {[]string{"secrets | key1=B key1=A"},
			stored(t, "secrets", "key1", "A"), ""},
		"plain, and no identity": {[]string{"secrets | key1=A"}, stored(t, "secrets", "", ""),
			"not encrypted (secrets: 7), but /etc/kubernetes/enc/enc.yaml"},
		"plain, and identity at last": {[]string{"secrets | key1=A identity"}, stored(t, "secrets", "", ""), ""},
		"encrypted, and identity first": {[]string{"secrets | identity key1=A"},
			stored(t, "secrets", "key1", "A"), ""},
		"plain without an entry": {[]string{"secrets | key1=A"}, stored(t, "configmaps", "", ""), ""},
		"the core group's entry": {[]string{"*. | key1=A"}, stored(t, "secrets", "key1", "A"), ""},
		"its group's entry":      {[]string{"*.apps | key1=A"}, stored(t, "deployments", "key1", "A"), ""},
		"its group's entry lacks the key": {[]string{"*.apps | key2=A", "secrets | key1=A"},
			stored(t, "deployments", "key1", "A"), "key1: (deployments: 7)"},
		"the entry for all": {[]string{"*.* | key1=A"}, stored(t, "secrets", "key1", "A"), ""},
		"a group of its own": {[]string{"ingresses.networking.k8s.io | key1=A"},
			stored(t, "ingresses", "key1", "A"), ""},
		"its own entry hides the one for all": {[]string{"secrets | key2=B", "*.* | key1=A"},
			stored(t, "secrets", "key1", "A"), "key1: (secrets: 7)"},
		"a custom resource": {[]string{"*.example.com | key1=A"},
			custom(stored(t, "widgets.example.com", "key1", "A")), ""},
		"a custom resource's key is another's": {[]string{"secrets | key1=A"},
			custom(stored(t, "widgets.example.com", "key1", "A")), "widgets.example.com: 7"},
		"a plain custom resource": {[]string{"*.* | key1=A"}, custom(stored(t, "widgets.example.com", "", "")),
			"not encrypted (widgets.example.com: 7)"},
		"a name with a colon": {[]string{"secrets | with:colon=A"}, stored(t, "secrets", "with:colon", "A"), ""},
		"no configuration": {nil, stored(t, "secrets", "key1", "A"),
			"the API server has no encryption configuration"},
		"no configuration, and plain": {nil, stored(t, "secrets", "", ""), ""},

		// Who reads these is not certain.
		"what no definition names": {[]string{"secrets | key1=A"},
			stored(t, "widgets.example.com", "key1", "A"), ""},
		"plain, and no definition":    {[]string{"*.* | key1=A"}, stored(t, "widgets.example.com", "", ""), ""},
		"an API server's own entries": {[]string{"*.* | key1=A"}, stored(t, "masterleases", "", ""), ""},
		"allocated addresses":         {[]string{"*.* | key1=A"}, stored(t, "ranges", "", ""), ""},
		"events":                      {[]string{"*.* | key1=A"}, stored(t, "events", "", ""), ""},
		"what is not served any more": {[]string{"*.* | key1=A"}, stored(t, "podsecuritypolicy", "", ""), ""},
		"elsewhere, and no key by that name": {[]string{"*.* | key1=A"}, stored(t, "", "key2", "A"),
			"key2: (outside /registry: 7)"},
	} {
		t.Run(name, func(t *testing.T) {
			config := ""
			if c.config != nil {
				config = encrypts(c.config...)
			}
			n, f, _ := encryptingNode(t, config, c.holds)
			f.Encryption = n.Encryption(t.Context(), f.Manifests, f.Snapshot.Stored)
			err := restorer{}.checkEncryption(f)
			if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("refused: %v", err)
			}
			lost := unreadable(f.Encryption)
			if c.says == "" {
				if lost != nil {
					t.Errorf("given up: %q", lost)
				}
				return
			}
			// Where the key is gone for good, the rest can be restored all the same.
			if !strings.Contains(engine.Hint(err), "--other-pki") {
				t.Errorf("the hint is %q", engine.Hint(err))
			}
			o := restorer{Options: Options{OtherPKI: true}}
			if err := o.checkFits(f); err != nil {
				t.Errorf("--other-pki: %v", err)
			}
			if len(lost) != 1 || !strings.Contains(lost[0], observe.Counted(c.holds.Resource, 7)) {
				t.Errorf("given up: %q", lost)
			}
			if given := o.stakes(f).Lost; !slices.Contains(given, lost[0]) {
				t.Errorf("the stakes are %q", given)
			}
			warned := finding.Texts(o.warnedOfNode(f))
			if !slices.ContainsFunc(warned, func(s string) bool { return strings.Contains(s, c.says) }) {
				t.Errorf("it warns %q", warned)
			}
		})
	}
}

// A plugin that hangs is not asked once for each resource.
func TestAMuteKMSIsAskedOnce(t *testing.T) {
	sealed := append([]byte("k8s:enc:kms:v1:old:\x00\x03"), "key and a value"...)
	var all []snapfile.Stored
	for _, resource := range []string{"secrets", "configmaps", "pods"} {
		all = append(all, snapfile.Stored{Resource: resource, Prefix: "k8s:enc:kms:v1:old:", Objects: 1,
			Sample: &snapfile.Sample{Key: "/registry/" + resource + "/a/b", Value: sealed}})
	}
	config := strings.ReplaceAll(strings.Replace(kmsConfiguration, "[secrets]", "['*.*']", 1), "LIMIT", "1s")
	n, f, _ := encryptingNode(t, config, all...)
	f.Encryption = n.Encryption(t.Context(), f.Manifests, f.Snapshot.Stored)
	if notes := f.fitNotes(); len(notes) != 1 || (restorer{}).checkEncryption(f) != nil {
		t.Errorf("%q", notes)
	}
}

func TestWhatAnyAPIServerCannotReadIsGivenUpOnce(t *testing.T) {
	v, _ := threeSeen()
	for name, lost := range map[string][]string{"cp1": {"a"}, "cp2": {"a"}, "cp3": {"a", "b"}} {
		s := v.surveys[name]
		s.Unreadable = lost
		v.surveys[name] = s
	}
	if lost := v.unreadable(); !slices.Equal(lost, []string{"a", "b"}) {
		t.Errorf("%q", lost)
	}
}
