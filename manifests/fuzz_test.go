package manifests

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

func seed(f *testing.F) [][]byte {
	f.Helper()
	names, err := filepath.Glob("testdata/*.*")
	if err != nil || len(names) == 0 {
		f.Fatal("no seeds")
	}
	var texts [][]byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		texts = append(texts, b, bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")))
	}
	for _, s := range forms {
		texts = append(texts, []byte(s))
	}
	return texts
}

func FuzzParse(f *testing.F) {
	for _, b := range seed(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") {
				t.Errorf("an error without a line: %v", err)
			}
			return
		}
		if !bytes.Equal(m.Bytes(), b) {
			t.Error("the text came back changed")
		}
		agreesWithKubelet(t, m)
	})
}

func FuzzEdit(f *testing.F) {
	for _, b := range seed(f) {
		f.Add(b, "data-dir", "/srv/etcd")
		f.Add(b, "new-flag", "a, b: \"c\" 'd' #e")
	}
	f.Fuzz(func(t *testing.T, b []byte, name, value string) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		container := m.Containers()[0]
		old, had := m.Flag(container, name)
		edited, err := m.SetFlag(container, name, value)
		if err != nil {
			return
		}
		agreesWithKubelet(t, edited)
		if got, ok := edited.Flag(container, name); !ok || got != value {
			t.Fatalf("set to %q, read as %q in\n%s", value, got, edited.Bytes())
		}
		if a, b := otherFlags(m, container, name), otherFlags(edited, container, name); !slices.Equal(a, b) {
			t.Fatalf("other flags were %q, are %q", a, b)
		}
		if n := changedLines(m.Bytes(), edited.Bytes()); had && n > 1 {
			t.Errorf("%d lines changed in\n%s\nwhich became\n%s", n, b, edited.Bytes())
		}
		var undone *Manifest
		if had {
			undone, err = edited.SetFlag(container, name, old)
		} else {
			undone, err = edited.RemoveFlag(container, name)
		}
		if err != nil {
			t.Fatalf("cannot undo: %v in\n%s", err, edited.Bytes())
		}
		if got, ok := undone.Flag(container, name); ok != had || got != old {
			t.Fatalf("undone, it reads %q", got)
		}
		if !had && !bytes.Equal(undone.Bytes(), b) {
			t.Fatalf("added and removed, the text differs:\n%q\n%q", b, undone.Bytes())
		}
	})
}

func FuzzAnnotate(f *testing.F) {
	for _, b := range seed(f) {
		f.Add(b, "etcdpod.io/run", "yes")
		f.Add(b, "a: b", "'c' \"d\"\n#e")
	}
	f.Fuzz(func(t *testing.T, b []byte, key, value string) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		_, had := m.Annotation(key)
		edited, err := m.SetAnnotation(key, value)
		if err != nil {
			return
		}
		agreesWithKubelet(t, edited)
		if got, ok := edited.Annotation(key); !ok || got != value {
			t.Fatalf("set to %q, read as %q in\n%s", value, got, edited.Bytes())
		}
		if n := changedLines(m.Bytes(), edited.Bytes()); had && n > 1 {
			t.Errorf("%d lines changed in\n%s\nwhich became\n%s", n, b, edited.Bytes())
		}
		undone, err := edited.RemoveAnnotation(key)
		if err != nil {
			t.Fatalf("cannot undo: %v in\n%s", err, edited.Bytes())
		}
		if _, ok := undone.Annotation(key); ok {
			t.Fatal("still there after it was removed")
		}
		if !had && len(m.pod.annotations.entries) > 0 && !bytes.Equal(undone.Bytes(), b) {
			t.Fatalf("added and removed, the text differs:\n%q\n%q", b, undone.Bytes())
		}
	})
}

func otherFlags(m *Manifest, container, name string) []string {
	var s []string
	for _, f := range m.Flags(container) {
		if f.Name != name {
			s = append(s, f.Name+"="+f.Value)
		}
	}
	return s
}

// changedLines counts the lines of b outside the common first and last lines of a and b.
func changedLines(a, b []byte) int {
	x, y := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for len(x) > 0 && len(y) > 0 && bytes.Equal(x[0], y[0]) {
		x, y = x[1:], y[1:]
	}
	for len(x) > 0 && len(y) > 0 && bytes.Equal(x[len(x)-1], y[len(y)-1]) {
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	return len(y)
}

// agreesWithKubelet reads the manifest with the kubelet's parsers, and compares the results. It
// does not matter if only the kubelet refuses something.
func agreesWithKubelet(t *testing.T, m *Manifest) {
	t.Helper()
	var p corev1.Pod
	text, err := yaml.YAMLToJSONStrict(m.Bytes())
	if err != nil || json.UnmarshalCaseSensitivePreserveInts(text, &p) != nil {
		return
	}
	if p.Name != m.Name() {
		t.Errorf("the kubelet's name is %q, ours %q", p.Name, m.Name())
	}
	if !mapsEqual(p.Annotations, m) {
		t.Errorf("the kubelet reads the annotations as %q in\n%s", p.Annotations, m.Bytes())
	}
	for _, k := range p.Spec.Containers {
		c := m.find(k.Name)
		if c == nil {
			t.Fatalf("the kubelet runs a container %q", k.Name)
		}
		var ours []string
		for _, item := range c.argv() {
			ours = append(ours, item.Value)
		}
		if theirs := slices.Concat(k.Command, k.Args); !slices.Equal(ours, theirs) {
			t.Errorf("the kubelet reads the command line as %q, we as %q", theirs, ours)
		}
		if k.Image != m.Image(k.Name) {
			t.Errorf("the kubelet's image is %q, ours %q", k.Image, m.Image(k.Name))
		}
	}
}

func mapsEqual(theirs map[string]string, m *Manifest) bool {
	if len(theirs) != len(m.pod.annotations.entries) {
		return false
	}
	for key, value := range theirs {
		if got, ok := m.Annotation(key); !ok || got != value {
			return false
		}
	}
	return true
}
