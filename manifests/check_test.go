package manifests

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestAnEditThatDoesNotDoJustWhatItSaysIsCaught(t *testing.T) {
	const text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {tier: x}}\nspec:\n  containers:\n" +
		"  - name: c\n    image: a\n    ports: [1]\n"
	at := func(s string) (from, to int) { i := strings.Index(text, s); return i, i + len(s) }
	for _, tt := range []struct {
		name, cut, with, image, want string
	}{
		{"as it says", "a\n    ports", "b\n    ports", "b", ""},
		{"another value than it says", "a\n    ports", "bb\n    ports",
			"b", "line 7: the edit would change more than it should"},
		{"nothing but what it says", "a\n    ports", "a\n    ports", "b", "change more than"},
		{"another line, too", "a\n    ports: [1]", "b\n    ports: [2]", "b", "change more than"},
		{"a number for a string of the same letters", "ports: [1]", `ports: ["1"]`, "", "change more than"},
		{"an item more", "ports: [1]", "ports: [1, 1]", "", "change more than"},
		{"an anchor more", "ports: [1]", "ports: &x [1]", "", "change more than"},
		{"a list for a value", "ports: [1]", "ports: {1: }", "", "change more than"},
		{"a second document", "a\n    ports: [1]\n", "b\n---\nx: y\n",
			"b", "would be refused: line 9: a second document"},
		{"a key given twice", "    ports: [1]\n", "    image: a\n", "", `would be refused: line 8: duplicate key ` +
			`"image"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := parse(t, text)
			e := m.edit()
			from, to := at(tt.cut)
			e.cut(from, to, tt.with)
			if tt.image != "" {
				e.becomes[m.find("c").image] = []*yaml.Node{stringNode(tt.image)}
			}
			_, err := e.apply()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if tier, ok := parse(t, text).Label("tier"); !ok || tier != "x" {
		t.Errorf("the label is %q, %v", tier, ok)
	}
}

func TestAnnotationsGoAsTheyCame(t *testing.T) {
	const head, tail = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n", "spec: {containers: [{name: c}]}\n"
	for _, tt := range []struct{ name, before, after, refused string }{
		{"one of two lines", "  annotations:\n    a: b\n    x: y # z\n", "  annotations:\n    a: b\n", ""},
		{"the only one, a comment above it kept", "  annotations:\n    # why\n    x: y\n",
			"  annotations:\n    # why\n", ""},
		{"the only one with its key", "  annotations: # c\n    x: y\n", "", ""},
		{"the first of a flow mapping", "  annotations: {x: y, a: b}\n", "  annotations: {a: b}\n", ""},
		{"the last of a flow mapping", "  annotations: {a: b, x: y}\n", "  annotations: {a: b}\n", ""},
		{"the only one of a flow mapping", "  annotations: {x: y}\n", "  annotations: {}\n", ""},
		{"a block scalar", "  annotations:\n    x: |\n      y\n", "", "line 6: a value that is tagged"},
		{"a comment in a flow mapping", "  annotations: {a: b, # c\n    x: y}\n",
			"", "line 6: there is more than a comma"},
		{"a neighbour that is a block scalar", "  annotations: {a: !!str b, x: y}\n",
			"", "line 5: a value that is tagged"},
		{"a key written with a question mark", "  annotations:\n    ? x\n    : y\n",
			"", "the line holds something else, too"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := parse(t, head+tt.before+tail)
			edited, err := m.RemoveAnnotation("x")
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("got %v, want %q", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(edited.Bytes()), head+tt.after+tail; got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			agreesWithKubelet(t, edited)
		})
	}
}

func TestWrongTypesAreRefusedWhereverEtcdpodReads(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"a label that is a number", strings.Replace(podOf(""), "name: etcd\n", "name: etcd\n  labels: {a: 1}\n", 1),
			"line 5: a value of metadata.labels is not a string"},
		{"an annotation that is true", strings.Replace(podOf(""), "name: etcd\n",
			"name: etcd\n  annotations: {a: true}\n", 1), "line 5: a value of metadata.annotations is not a string"},
		{"a name that is a number", strings.Replace(podOf(""), "name: etcd\n", "name: 1\n", 1),
			"line 4: metadata.name is not a string"},
		{"a namespace that is a list", strings.Replace(podOf(""), "name: etcd\n", "name: etcd\n  namespace: []\n", 1),
			"line 5: metadata.namespace is not a string"},
		{"containers that are a mapping", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: {}}\n",
			"line 4: spec.containers is not a list"},
		{"hostNetwork that is a word", podOf("  hostNetwork: perhaps\n"),
			"line 8: spec.hostNetwork is not true or false"},
		{"hostNetwork in quotes", podOf("  hostNetwork: 'true'\n"), "line 8: spec.hostNetwork is not true or false"},
		{"an image that is a number", podOf("    image: 3.5\n"), "line 8: image is not a string"},
		{"a variable without a name", podOf("    env: [{value: a}]\n"), "line 8: a variable without a name"},
		{"a variable with a number", podOf("    env: [{name: a, value: 1}]\n"),
			"line 8: the value of a variable is not a string"},
		{"env that is a mapping", podOf("    env: {a: b}\n"), "line 8: env is not a list"},
		{"a mount without a name", podOf("    volumeMounts: [{mountPath: /a}]\n"), "line 8: a mount without a name"},
		{"a mount path that is a list", podOf("    volumeMounts: [{name: a, mountPath: [/a]}]\n"),
			"line 8: mountPath is not a string"},
		{"readOnly that is a number", podOf("    volumeMounts: [{name: a, readOnly: 1}]\n"),
			"line 8: readOnly is not true or false"},
		{"a volume without a name", podOf("  volumes: [{hostPath: {path: /a}}]\n"), "line 8: a volume without a name"},
		{"two volumes of one name", podOf("  volumes:\n  - name: a\n  - name: a\n"),
			`line 10: duplicate volume "a", first on line 9`},
		{"a host path that is a string", podOf("  volumes: [{name: a, hostPath: /a}]\n"),
			"line 8: hostPath is not a mapping"},
		{"a host path's path that is a number", podOf("  volumes: [{name: a, hostPath: {path: 1}}]\n"),
			"line 8: hostPath.path is not a string"},
		{"a host path's type that is a number", podOf("  volumes: [{name: a, hostPath: {path: /a, type: 1}}]\n"),
			"line 8: hostPath.type is not a string"},
		{"a key that is a list", podOf("    [a]: b\n"), "line 8: a key that is not a simple value"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse([]byte(tt.text)); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
