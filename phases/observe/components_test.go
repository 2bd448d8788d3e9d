package observe

import "testing"

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
