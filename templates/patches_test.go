package templates

import (
	"slices"
	"strings"
	"testing"
)

const aPod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: etcd\nspec:\n  containers:\n  - image: a\n" +
	"    name: etcd\n    resources: {}\nstatus: {}\n"

func TestPatchesApplyInTheOrderOfTheirFiles(t *testing.T) {
	image := func(s string) []byte {
		return []byte(`[{"op": "replace", "path": "/spec/containers/0/image", "value": "` + s + `"}]`)
	}
	for _, tt := range []struct {
		name  string
		files map[string][]byte
		want  string
	}{
		{"by name", map[string][]byte{"etcd1+json.json": image("one"), "etcd0+json.json": image("zero")}, "one"},
		{"a directory at the place of its name",
			map[string][]byte{"a-b/etcd+json.json": image("outer"), "a/etcd+json.json": image("inner")}, "outer"},
		{"documents one after the other", map[string][]byte{
			"etcd.yaml": []byte("spec: {containers: [{name: etcd, image: one}]}\n---\n" +
				"spec: {containers: [{name: etcd, image: two}]}\n"),
		}, "two"},
		{"a merge",
			map[string][]byte{"etcd+merge.yaml": []byte("spec: {containers: [{name: etcd, image: b}]}\n")}, "b"},
		{"not those of others", map[string][]byte{"kube-apiserver+json.yaml": image("b")}, "a"},
	} {
		p, err := ReadPatches(tt.files)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Apply("etcd", []byte(aPod))
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Replace(aPod, "image: a", "image: "+tt.want, 1); !strings.HasPrefix(tt.name, "a merge") &&
			string(got) != want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, want)
		}
		if !strings.Contains(string(got), "image: "+tt.want+"\n") {
			t.Errorf("%s: got\n%s", tt.name, got)
		}
	}
}

func TestFilesThatAreNoPatchesAreTold(t *testing.T) {
	p, err := ReadPatches(map[string][]byte{"etcd.yml": []byte("a"), "README": nil,
		"etcd.yaml": {}, "coredns.yaml": []byte("a"), ".yaml": []byte("a"), "etcdsuffix.yaml": []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		".yaml: its name ends neither with .yaml nor with .json",
		"README: its name ends neither with .yaml nor with .json",
		"coredns.yaml: its name does not begin with something that kubeadm patches",
		"etcd.yaml: it is empty",
		"etcd.yml: its name ends neither with .yaml nor with .json",
	}
	if !slices.Equal(p.Ignored, want) || len(p.all) != 1 {
		t.Errorf("got %q and %d patches", p.Ignored, len(p.all))
	}
}

func TestAPatchThatCannotBeUsedIsNamed(t *testing.T) {
	for _, tt := range []struct{ file, text, want string }{
		{"etcd+jsonn.yaml", "[]", ""}, // kubeadm ignores what follows the type
		{"etcd+.yaml", "{}", "cannot use the patch etcd+.yaml: after the + must come json, merge or strategic"},
		{"etcd+other.yaml", "{}", "cannot use the patch etcd+other.yaml"},
		{"etcd.yaml", "a: [", "cannot read the patch etcd.yaml: "},
		{"etcd+json.yaml", "- {op: remove, path: /spec/nothing}", "cannot apply the patch etcd+json.yaml: "},
		{"etcd+json.yaml", "a: b", "cannot apply the patch etcd+json.yaml: "},
		{"etcd+merge.yaml", "kind: Service", ": they turn its Pod into a Service of v1"},
		{"etcd+merge.yaml", "spec: {hostNetwork: 3}", "cannot use the patches of etcd: "},
	} {
		p, err := ReadPatches(map[string][]byte{tt.file: []byte(tt.text)})
		if err == nil {
			_, err = p.Apply("etcd", []byte(aPod))
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s with %s: got %v, want %q", tt.file, tt.text, err, tt.want)
		}
	}
}

func TestWithoutPatchesAManifestStaysAsItIs(t *testing.T) {
	for _, p := range []*Patches{nil, {}} {
		if got, err := p.Apply("kube-apiserver", []byte("# as a person wrote it\n")); err != nil ||
			string(got) != "# as a person wrote it\n" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}
