package manifests

import (
	"os"
	"strings"
	"testing"
)

func read(t testing.TB, file string) *Manifest {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(b))
}

func parse(t testing.TB, text string) *Manifest {
	t.Helper()
	m, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return m
}

// pair is one line of a manifest before and after an edit; an empty one means that the line
// is added or removed.
type pair struct{ before, after string }

// want replaces the line before, or adds one after the line behind.
func (p pair) want(text, behind string) string {
	switch {
	case p.before == "":
		return strings.Replace(text, behind, behind+p.after, 1)
	default:
		return strings.Replace(text, p.before, p.after, 1)
	}
}

func TestAnEditOfKubeadmsManifestsChangesOneLine(t *testing.T) {
	const lastFlag = "    - --watch-progress-notify-interval=5s\n"
	tests := []struct {
		name, file string
		edit       func(*Manifest) (*Manifest, error)
		pair
		behind string
	}{
		{"a flag is changed in place", "etcd.yaml",
			func(m *Manifest) (*Manifest, error) { return m.SetFlag("etcd", "data-dir", "/srv/etcd") },
			pair{"    - --data-dir=/var/lib/etcd\n", "    - --data-dir=/srv/etcd\n"}, ""},
		{"a value with an equals sign and commas needs no quotes in block style", "etcd.yaml",
			func(m *Manifest) (*Manifest, error) {
				return m.SetFlag("etcd", "initial-cluster", "cp1=https://10.0.0.11:2380,cp2=https://10.0.0.12:2380")
			},
			pair{"=cp1=https://10.0.0.11:2380\n", "=cp1=https://10.0.0.11:2380,cp2=https://10.0.0.12:2380\n"}, ""},
		{"a value that YAML would read otherwise is quoted", "etcd.yaml",
			func(m *Manifest) (*Manifest, error) { return m.SetFlag("etcd", "name", "a: b #c") },
			pair{"    - --name=cp1\n", "    - \"--name=a: b #c\"\n"}, ""},
		{"a new flag goes after the last one", "etcd.yaml",
			func(m *Manifest) (*Manifest, error) {
				return m.SetFlag("etcd", "initial-cluster-state", "existing")
			},
			pair{"", "    - --initial-cluster-state=existing\n"}, lastFlag},
		{"a removed flag takes its line along", "etcd.yaml",
			func(m *Manifest) (*Manifest, error) { return m.RemoveFlag("etcd", "feature-gates") },
			pair{"    - --feature-gates=InitialCorruptCheck=true\n", ""}, ""},
		{"the image is changed in place", "etcd.yaml",
			func(m *Manifest) (*Manifest, error) { return m.SetImage("etcd", "registry.k8s.io/etcd:3.7.3-0") },
			pair{"etcd:3.7.0-0", "etcd:3.7.3-0"}, ""},
		{"a host path is changed in its volume only", "etcd.yaml",
			func(m *Manifest) (*Manifest, error) { return m.SetHostPath("etcd-data", "/srv/etcd") },
			pair{"      path: /var/lib/etcd\n", "      path: /srv/etcd\n"}, ""},
		{"an annotation is changed in place", "etcd.yaml",
			func(m *Manifest) (*Manifest, error) {
				return m.SetAnnotation("kubeadm.kubernetes.io/etcd.advertise-client-urls", "https://10.0.0.9:2379")
			},
			pair{"urls: https://10.0.0.11:2379\n", "urls: https://10.0.0.9:2379\n"}, ""},
		{"a new annotation goes after the last one, in quotes where it looks like a number", "etcd.yaml",
			func(m *Manifest) (*Manifest, error) { return m.SetAnnotation("etcdpod.io/run", "17") },
			pair{"", "    etcdpod.io/run: \"17\"\n"}, "urls: https://10.0.0.11:2379\n"},
		{"the last annotation takes the mapping along", "etcd.yaml",
			func(m *Manifest) (*Manifest, error) {
				return m.RemoveAnnotation("kubeadm.kubernetes.io/etcd.advertise-client-urls")
			},
			pair{"  annotations:\n    kubeadm.kubernetes.io/etcd.advertise-client-urls: https://10.0.0.11:2379\n", ""},
			""},
		{"the API server gets another list of servers", "kube-apiserver.yaml",
			func(m *Manifest) (*Manifest, error) {
				return m.SetFlag("kube-apiserver", "etcd-servers", "https://10.0.0.11:2379,https://10.0.0.12:2379")
			},
			pair{"=https://127.0.0.1:2379\n", "=https://10.0.0.11:2379,https://10.0.0.12:2379\n"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, ends := range []string{"\n", "\r\n"} {
				before := parse(t, strings.ReplaceAll(string(read(t, tt.file).Bytes()), "\n", ends))
				was := string(before.Bytes())
				p := pair{strings.ReplaceAll(tt.before, "\n", ends), strings.ReplaceAll(tt.after, "\n", ends)}
				after, err := tt.edit(before)
				if err != nil {
					t.Fatal(err)
				}
				want := p.want(was, strings.ReplaceAll(tt.behind, "\n", ends))
				if want == was {
					t.Fatal("the test expects no change")
				}
				if got := string(after.Bytes()); got != want {
					t.Errorf("got:\n%s\nwant:\n%s", got, want)
				}
				if string(before.Bytes()) != was {
					t.Error("the edit changed the manifest that it was called on")
				}
			}
		})
	}
}
