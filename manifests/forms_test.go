package manifests

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// forms are the ways in which people write the same pod.
var forms = map[string]string{
	"json": `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"etcd"},"spec":{"containers":[{"name":"etcd","image":"e:1",
  "command":["etcd","--data-dir=/d","--name=a"],
  "volumeMounts":[{"name":"v","mountPath":"/d"}]}],
  "volumes":[{"name":"v","hostPath":{"path":"/h"}}]}}`,
	"json over lines": `{
  "apiVersion": "v1",
  "kind": "Pod",
  "metadata": {
    "name": "etcd",
    "annotations": {
      "a": "b"
    }
  },
  "spec": {
    "containers": [
      {
        "name": "etcd",
        "image": "e:1",
        "args": [
          "--data-dir",
          "/d",
          "--name=a"
        ]
      }
    ],
    "volumes": [{"name": "v", "hostPath": {"path": "/h"}}]
  }
}
`,
	"flow list": `apiVersion: v1
kind: Pod
metadata: {name: etcd, annotations: {}}
spec:
  containers:
  - name: etcd
    image: 'e:1' # pinned
    command: [etcd, --data-dir=/d, '--name=a']
  volumes:
  - {name: v, hostPath: {path: /h}}
`,
	"commented": `# ours
---
apiVersion: v1
kind: Pod
metadata:
  # the name
  name: etcd   # the pod's

  annotations:
spec:
  containers:
  - name: etcd
    image: "e:1"
    command:
      - etcd
      # where the data is
      - "--data-dir=/d"   # on the fast disk

      - '--name=a'
      # end
  volumes:
  - name: v
    hostPath: {path: "/h"}
...
`,
	"separate values": `apiVersion: v1
kind: Pod
metadata:
  name: etcd
spec:
  containers:
  - name: etcd
    image: e:1
    command: ["etcd"]
    args:
    - -data-dir
    - /d
    - --bare
    - -name
    - "a"
  volumes:
  - name: v
    hostPath:
      path: /h`,
}

func TestEveryFormReadsAsTheSamePod(t *testing.T) {
	for name, text := range forms {
		t.Run(name, func(t *testing.T) {
			m := parse(t, text)
			dir, _ := m.Flag("etcd", "data-dir")
			member, _ := m.Flag("etcd", "name")
			volumes := m.HostPaths()
			if dir != "/d" || member != "a" || m.Image("etcd") != "e:1" ||
				len(volumes) != 1 || volumes[0].Path != "/h" {
				t.Errorf("data-dir %q, name %q, image %q, volumes %+v", dir, member, m.Image("etcd"), volumes)
			}
			if string(m.Bytes()) != text {
				t.Error("the text came back changed")
			}
		})
	}
}

type step func(*Manifest) (*Manifest, error)

func set(name, value string) step {
	return func(m *Manifest) (*Manifest, error) { return m.SetFlag("etcd", name, value) }
}

func remove(name string) step {
	return func(m *Manifest) (*Manifest, error) { return m.RemoveFlag("etcd", name) }
}

func rename(name, to, value string) step {
	return func(m *Manifest) (*Manifest, error) { return m.RenameFlag("etcd", name, to, value) }
}

func annotate(key, value string) step {
	return func(m *Manifest) (*Manifest, error) { return m.SetAnnotation(key, value) }
}

func image(to string) step {
	return func(m *Manifest) (*Manifest, error) { return m.SetImage("etcd", to) }
}

func TestAnEditKeepsTheFormThatItFinds(t *testing.T) {
	tests := []struct {
		name, form string
		edit       step
		pair
	}{
		{"a flag in JSON", "json", set("data-dir", "/n"), pair{`"--data-dir=/d"`, `"--data-dir=/n"`}},
		{"a new flag in JSON on one line", "json", set("x", "1"), pair{`"--name=a"]`, `"--name=a","--x=1"]`}},
		{"a flag removed from JSON on one line", "json", remove("data-dir"), pair{`"--data-dir=/d",`, ``}},
		{"the first annotation in JSON", "json", annotate("k", "v"),
			pair{`{"name":"etcd"}`, `{"name":"etcd", "annotations":{"k":"v"}}`}},
		{"a value of its own in JSON", "json over lines", set("data-dir", "/n"), pair{`"/d"`, `"/n"`}},
		{"a new flag in JSON over lines", "json over lines",
			set("x", "1"), pair{"\"--name=a\"\n", "\"--name=a\",\n          \"--x=1\"\n"}},
		{"a flag and its value removed from JSON over lines", "json over lines", remove("data-dir"),
			pair{"          \"--data-dir\",\n          \"/d\",\n", ""}},
		{"a new annotation in JSON", "json over lines", annotate("c", "d"), pair{`"a": "b"`, `"a": "b", "c": "d"`}},
		{"a flag in a flow list", "flow list", set("data-dir", "/n"), pair{"--data-dir=/d,", "--data-dir=/n,"}},
		{"a comma in a flow list is quoted", "flow list", set("data-dir", "/n,/m"),
			pair{"--data-dir=/d,", `"--data-dir=/n,/m",`}},
		{"single quotes stay, and are doubled inside", "flow list",
			set("name", "it's"), pair{"'--name=a'", "'--name=it''s'"}},
		{"a new flag in a flow list", "flow list", set("x", "1"), pair{"'--name=a']", "'--name=a', '--x=1']"}},
		{"the last flag removed from a flow list", "flow list", remove("name"), pair{", '--name=a'", ""}},
		{"the image in single quotes, its comment kept", "flow list",
			image("e:2"), pair{"'e:1' # pinned", "'e:2' # pinned"}},
		{"the first annotation in an empty flow mapping", "flow list", annotate("k", "v"), pair{"{}", "{k: v}"}},
		{"a flag with a comment behind it", "commented", set("data-dir", "/n"),
			pair{`"--data-dir=/d"   #`, `"--data-dir=/n"   #`}},
		{"another name, and the comments stay", "commented", rename("data-dir", "dir", "/n"),
			pair{`"--data-dir=/d"   #`, `"--dir=/n"   #`}},
		{"another name in JSON", "json", rename("name", "n", "a"), pair{`"--name=a"`, `"--n=a"`}},
		{"another name for a value of its own", "separate values", rename("data-dir", "dir", "/d"),
			pair{"- -data-dir\n", "- -dir\n"}},
		{"another name, and a value, for a bare flag", "separate values", rename("bare", "gates", "Bare=true"),
			pair{"- --bare\n", "- --gates=Bare=true\n"}},
		{"a new flag before the comment at the end", "commented",
			set("x", "1"), pair{"'--name=a'\n", "'--name=a'\n      - '--x=1'\n"}},
		{"a removed flag takes the comment on its line, not the one above", "commented", remove("data-dir"),
			pair{"      - \"--data-dir=/d\"   # on the fast disk\n", ""}},
		{"the first annotation under a key with nothing", "commented",
			annotate("k", "v"), pair{"annotations:\n", "annotations: {k: v}\n"}},
		{"a value of its own", "separate values", set("data-dir", "/n"), pair{"- /d\n", "- /n\n"}},
		{"a bare flag gets a value", "separate values", set("bare", "false"), pair{"- --bare\n", "- --bare=false\n"}},
		{"a new flag like its neighbour, in two items", "separate values",
			set("x", "1"), pair{"- \"a\"\n", "- \"a\"\n    - -x\n    - \"1\"\n"}},
		{"both items are removed", "separate values", remove("data-dir"), pair{"    - -data-dir\n    - /d\n", ""}},
		{"the first annotation makes its mapping", "separate values",
			annotate("k", "v"), pair{"  name: etcd\n", "  name: etcd\n  annotations:\n    k: v\n"}},
		{"the last line without an end", "separate values",
			func(m *Manifest) (*Manifest, error) { return m.SetHostPath("v", "/n") }, pair{"path: /h", "path: /n"}},
		{"a flag that is so already", "commented", set("data-dir", "/d"), pair{"", ""}},
		{"a flag removed that is not there", "commented", remove("x"), pair{"", ""}},
		{"an annotation removed that is not there", "commented",
			func(m *Manifest) (*Manifest, error) { return m.RemoveAnnotation("x") }, pair{"", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := parse(t, forms[tt.form])
			if tt.before != "" && strings.Count(forms[tt.form], tt.before) != 1 {
				t.Fatalf("%q is there %d times", tt.before, strings.Count(forms[tt.form], tt.before))
			}
			edited, err := tt.edit(m)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(edited.Bytes()),
				strings.Replace(forms[tt.form], tt.before, tt.after, 1); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			agreesWithKubelet(t, edited)
		})
	}
}

func TestTheFormsAreOnesThatTheKubeletReads(t *testing.T) {
	for name, text := range forms {
		if err := yaml.UnmarshalStrict([]byte(text), &corev1.Pod{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
