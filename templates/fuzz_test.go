package templates

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("../e2e/oracle/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no cases of the oracle: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(archive.Files) > 0 && archive.Files[0].Name == "kubeadm.yaml" {
			f.Add(bytes.ReplaceAll(archive.Files[0].Data, []byte("VERSION"), []byte("v1.37.2")), false)
		}
	}
	f.Add([]byte(ofCluster+"---\n"+ofJoin), true)
	f.Fuzz(func(t *testing.T, text []byte, join bool) {
		c, err := Read(text, Options{Join: join, AllowExperimentalAPI: true,
			Hostname: "cp1", DefaultAddress: "10.0.0.11"})
		if err != nil {
			if c != nil {
				t.Error("a configuration, and an error")
			}
			each(err, func(e *InvalidError) {
				if e.Line < 0 || e.Line > bytes.Count(text, []byte("\n"))+2 || e.Reason == "" {
					t.Errorf("%+v is about no line of the file", e)
				}
			}, t)
			return
		}
		manifest, err := c.EtcdManifest(nil, nil)
		if c.External != nil {
			return
		}
		var pod corev1.Pod
		if err != nil || yaml.UnmarshalStrict(manifest, &pod) != nil || len(pod.Spec.Containers) != 1 {
			t.Errorf("%v\n%s", err, manifest)
		}
		c.APIServerEtcdFlags()
	})
}

// each splits a joined error.
func each(err error, see func(*InvalidError), t *testing.T) {
	if many, is := err.(interface{ Unwrap() []error }); is {
		for _, err := range many.Unwrap() {
			each(err, see, t)
		}
		return
	}
	var e *InvalidError
	if !errors.As(err, &e) {
		t.Errorf("%v is no InvalidError", err)
		return
	}
	see(e)
}

func FuzzPatches(f *testing.F) {
	f.Add("etcd.yaml", []byte("spec: {containers: [{name: etcd, image: b, $patch: delete}]}\n---\nx: y\n"))
	f.Add("etcd0+json.json", []byte(`[{"op": "add", "path": "/spec/containers/0/command/-", "value": "x"}, {"op": `+
		`"test", "path": "", "value": null}, {"op": "move", "from": "/a", "path": "/b"}]`))
	f.Add("etcd+merge.yaml", []byte("metadata: null\n"))
	f.Fuzz(func(t *testing.T, file string, text []byte) {
		p, err := ReadPatches(map[string][]byte{file: text})
		if err != nil {
			return
		}
		got, err := p.Apply("etcd", []byte(aPod))
		if err == nil && len(p.all) == 0 && string(got) != aPod {
			t.Errorf("changed without a patch:\n%s", got)
		}
	})
}
