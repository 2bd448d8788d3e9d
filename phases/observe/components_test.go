package observe

import (
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
)

// The kubelet runs more than can be edited as text.
func TestWhatTheKubeletRunsIsJudgedHoweverItIsWritten(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n  - name: x\n"
	for name, tt := range map[string]struct {
		text string
		want bool
	}{
		"an anchor in the command":       {pod + "    command: &c [kube-scheduler]\n    args: *c\n", true},
		"an anchor, and another program": {pod + "    command: &c [keepalived]\n    args: *c\n", false},
		"an anchor in a mounted volume": {pod + "    command: [sh]\n" +
			"    volumeMounts: &m [{name: d, mountPath: /d}]\n" +
			"  volumes: [{name: d, hostPath: {path: /var/lib/etcd}}]\n", true},
		"a second document":               {pod + "    command: [etcd]\n---\nkind: Pod\n", true},
		"a readme":                        {"# etcd\nDo not touch kube-apiserver.yaml here.\n", false},
		"another kind":                    {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: etcd}\n", false},
		"nothing":                         {"", false},
		"no text":                         {"\x00\xff", false},
		"a pod of which nothing is known": {"apiVersion: v1\nkind: Pod\nspec:\n  containers: [{name: x}]\n", true},
	} {
		if got := InvolvedText([]byte(tt.text), []string{"/var/lib/etcd"}); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAnAPIServerThatKeepsItsObjectsElsewhereIsNoted(t *testing.T) {
	for flag, noted := range map[string]bool{
		"": false, "--etcd-prefix=/registry": false, "--etcd-prefix=registry/": false,
		"--etcd-prefix=/prod": true, "--etcd-prefix=prod/": true,
	} {
		text := "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\nspec:\n  containers:\n  - name: x\n    image: x\n" +
			"    command:\n    - kube-apiserver\n    - --secure-port=6443\n"
		if flag != "" {
			text += "    - " + flag + "\n"
		}
		m, err := manifests.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		notes := (&Facts{Manifests: []ManifestFile{{Path: "/m/kube-apiserver.yaml", Manifest: m}}}).OtherPrefix()
		if (len(notes) > 0) != noted || noted && !strings.Contains(notes[0].Text, "below /prod (--etcd-prefix in /m/") {
			t.Errorf("%s: %v", flag, notes)
		}
	}
}
