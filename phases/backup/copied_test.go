package backup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Only of this node's own data, and of what its runs keep, it is known that etcd was stopped.
// Everything else may be a copy, wherever it is and however it is named.
func TestDataThatMayBeACopyIsSaidToBeOne(t *testing.T) {
	root := t.TempDir()
	const kubeadms = "/etc/kubernetes/tmp/kubeadm-backup-etcd-2026-11-29-01-02-03/etcd"
	const kept = "/var/lib/etcdpod/runs/20261129-010203-restore-aaaa/data"
	for _, dir := range []string{"/data/etcd", "/var/lib/etcd", "/root/copy", kubeadms,
		kept, "/etc/kubernetes"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(kubeadms, filepath.Join(root, "/root/kubeadm")),
		os.Symlink("/data/etcd", filepath.Join(root, "/root/own")),
		os.Symlink("/root/copy", filepath.Join(root, "/root/a"))); err != nil {
		t.Fatal(err)
	}
	n := &observe.Node{View: (&node.Host{FS: node.OS(root)}).View()}
	own := &observe.Facts{Etcd: &observe.EtcdPod{DataDir: "/data/etcd"}}
	pod, err := manifests.Parse([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: etcd}\nspec:\n  containers:\n" +
		"  - {name: etcd, command: [etcd]}\n  volumes:\n  - {name: d, hostPath: {path: /data/etcd}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	unusable := &observe.Facts{Manifests: []observe.ManifestFile{{Manifest: pod}}, EtcdError: errors.New("unusable")}
	const kubeadm, any, beyond = "kubeadm made this copy while etcd was running",
		"Nothing shows whether etcd was stopped", "its last 7 entries are in the snapshot"
	for name, test := range map[string]struct {
		facts   *observe.Facts
		dir     string
		pending int
		want    []string // none: no word
	}{
		"kubeadm's copy":                                {own, kubeadms, 0, []string{kubeadm}},
		"kubeadm's copy with a longer log":              {own, kubeadms, 7, []string{kubeadm, beyond}},
		"kubeadm's copy, through a link":                {own, "/root/kubeadm", 0, []string{kubeadm}},
		"another directory":                             {own, "/root/copy", 0, []string{any, "/root/copy"}},
		"another directory with a longer log":           {own, "/root/copy/", 7, []string{any, beyond}},
		"another directory, through a link":             {own, "/root/a", 0, []string{any}},
		"kubeadm's default, which is not used":          {own, "/var/lib/etcd", 0, []string{any}},
		"etcd's own":                                    {own, "/data/etcd", 7, nil},
		"etcd's own, through a link":                    {own, "/root/own/", 0, nil},
		"etcd's own, whose manifest is moved":           {&observe.Facts{}, "/var/lib/etcd", 0, nil},
		"etcd's own, whose manifest is unusable":        {unusable, "/data/etcd", 0, nil},
		"kubeadm's default, which such an etcd has not": {unusable, "/var/lib/etcd", 0, []string{any}},
		"what a run keeps":                              {own, kept, 0, nil},
	} {
		said := Copied(n, test.facts, test.dir, test.pending)
		if (said == "") != (test.want == nil) {
			t.Errorf("%s: %q", name, said)
		}
		for _, want := range test.want {
			if !strings.Contains(said, want) {
				t.Errorf("%s: %q lacks %q", name, said, want)
			}
		}
	}
}
