package status

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// etcd reads its CAs when it starts; of another file than it has read, nothing else tells.
func TestACAFileThatWasWrittenAfterItsReaderStartedIsNoticed(t *testing.T) {
	const ca, yaml = "/etc/kubernetes/pki/etcd/ca.crt", "apiVersion: v1\nkind: Pod\nmetadata: {name: kube-apiserver, " +
		"namespace: kube-system}\nspec:\n  containers:\n  - name: kube-apiserver\n    command: [kube-apiserver, " +
		"--etcd-cafile=/pki/etcd/ca.crt]\n    volumeMounts: [{name: pki, mountPath: /pki}]\n  volumes:\n  " +
		"- {name: pki, hostPath: {path: /etc/kubernetes/pki}}\n"
	disk := node.OS(t.TempDir())
	if err := errors.Join(node.MkdirAll(disk, "/etc/kubernetes/pki/etcd", node.Attr{Mode: 0o700}),
		disk.Create(ca, nil, node.Attr{Mode: 0o600})); err != nil {
		t.Fatal(err)
	}
	n := &observe.Node{View: node.View{FS: disk}}
	m, err := manifests.Parse([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	f := &observe.Facts{Manifests: []observe.ManifestFile{{Path: "/kube-apiserver.yaml", Manifest: m}}}
	written, err := disk.Lstat(ca)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		state string
		since time.Duration // the start of the program
		want  []unreadCA
	}{
		{"it has read it", "running", -time.Second, nil},
		{"it has not", "running", time.Second, []unreadCA{{ca, "kube-apiserver"}}},
		{"it does not run", "exited", time.Second, nil},
	} {
		f.Containers = []node.Container{{Name: "kube-apiserver", Pod: "kube-apiserver-cp1", Namespace: "kube-system",
			State: test.state, CreatedAt: written.ModTime.Add(-test.since)}}
		if got := unreadCAs(n, f); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
