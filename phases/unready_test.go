package phases

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/restore"
)

// A kubelet that runs does not read its configuration. Where somebody has broken it, the node can
// be looked at and etcd be backed up, and nothing is changed that would have the kubelet start.
func TestANodeWhoseKubeletsConfigurationIsBrokenCanBeLookedAt(t *testing.T) {
	const broken = "cannot read the kubelet's configuration /var/lib/kubelet/config.yaml"
	r := newInitRoot(t)
	r.write(r.at("/var/lib/kubelet/config.yaml"), "staticPodPath: [")
	r.write(r.at("/etc/systemd/system/kubelet.service"),
		"[Service]\nExecStart=/usr/bin/kubelet --config=/var/lib/kubelet/config.yaml\n")
	n, err := Open(Config{Root: r.root})
	if err != nil {
		t.Fatal(err)
	}
	starts := n.Look.KubeletStarts(n.Look.Clock.Now())
	if len(starts) != 1 || !strings.Contains(starts[0].What, broken) {
		t.Errorf("%+v", starts)
	}
	_, dry := n.Preview(t.Context(), restore.Workflow(restore.Options{File: filepath.Join(r.root, "x.db")}))
	_, lock := n.Engine().Lock(t.Context())
	for _, err := range []error{dry, lock} {
		if err == nil || !strings.Contains(err.Error(), broken) {
			t.Error(err)
		}
	}
}
