package manifests

import (
	"slices"
	"testing"
)

const withVariables = `apiVersion: v1
kind: Pod
metadata: {name: etcd}
spec:
  containers:
  - name: etcd
    image: etcd:1
    command: [etcd, "--name=$(NODE)", "--listen-client-urls=$(URL)", "--data-dir=/var/lib/etcd"]
    env:
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: URL, value: "https://$(IP):2379"}
    - {name: IDLE, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: ETCD_QUOTA, valueFrom: {configMapKeyRef: {name: c, key: k}}}
`

func parsed(t *testing.T, text string) *Manifest {
	t.Helper()
	m, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestWhatOnlyTheContainerKnowsIsNamedAndFilledIn(t *testing.T) {
	m := parsed(t, withVariables)
	if got := m.Unknown("etcd"); !slices.Equal(got, []string{"NODE", "IP"}) {
		t.Errorf("the command line needs %q", got)
	}
	if got := m.Unknown("etcd", "ETCD_"); !slices.Equal(got, []string{"NODE", "IP", "ETCD_QUOTA"}) {
		t.Errorf("etcd needs %q", got)
	}
	known := m.WithEnvironment("etcd", map[string]string{
		"NODE": "cp1", "IP": "10.0.0.1", "ETCD_QUOTA": "5$", "OTHER": "x",
	})
	if got := known.Unknown("etcd", "ETCD_"); len(got) > 0 {
		t.Errorf("still open: %q", got)
	}
	for text, want := range map[string]string{"$(NODE)": "cp1", "$(URL)": "https://10.0.0.1:2379",
		"$(ETCD_QUOTA)": "5$", "$(OTHER)": "$(OTHER)"} {
		if got, ok := known.Expand("etcd", text); got != want || !ok {
			t.Errorf("%s is %q, %v", text, got, ok)
		}
	}
	if string(known.Bytes()) != withVariables || len(m.Unknown("etcd")) != 2 {
		t.Error("the text changed, or the first manifest")
	}
	edited, err := known.SetFlag("etcd", "data-dir", "/new")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := edited.Flag("etcd", "name"); got != "$(NODE)" {
		t.Errorf("the name became %q", got)
	}
}

func TestVariablesOfAnotherObjectAreTakenAsAWhole(t *testing.T) {
	m := parsed(t, `apiVersion: v1
kind: Pod
metadata: {name: etcd}
spec:
  containers:
  - {name: etcd, image: "etcd:1", command: [etcd, "--name=$(WHO)"], envFrom: [{configMapRef: {name: c}}]}
`)
	if got := m.Unknown("etcd", "ETCD_"); !slices.Equal(got, []string{"WHO"}) {
		t.Errorf("needs %q", got)
	}
	known := m.WithEnvironment("etcd", map[string]string{"WHO": "cp1", "ETCD_DATA_DIR": "/d"})
	dir, _ := known.Env("etcd", "ETCD_DATA_DIR")
	name, _ := known.Expand("etcd", "$(WHO)")
	if name != "cp1" || dir != "/d" || len(known.Unknown("etcd", "ETCD_")) > 0 {
		t.Errorf("%q %q", name, dir)
	}
}
