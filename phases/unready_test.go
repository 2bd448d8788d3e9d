package phases

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/observe"
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
	r.write(r.at("/usr/bin/kubelet"), "")
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

// What starts the kubelet is systemd, unless the operator gives a command of their own.
func TestAKubeletThatSystemdWouldNotStartIsNotStopped(t *testing.T) {
	r := newInitRoot(t)
	r.write(r.at("/usr/bin/kubelet"), "")
	r.write(r.at("/etc/systemd/system/kubelet.service"),
		"[Service]\nEnvironmentFile=/etc/kubelet.env\nExecStart=/usr/bin/kubelet\n")
	for command, want := range map[string]int{"": 1, "/bin/start": 0} {
		n, err := Open(Config{Root: r.root, KubeletStart: command})
		if err != nil {
			t.Fatal(err)
		}
		starts := n.Look.KubeletStarts(n.Look.Clock.Now())
		if len(starts) != want || want > 0 && (!strings.Contains(starts[0].What, "/etc/kubelet.env") ||
			!strings.Contains(starts[0].Fix, "put it back")) {
			t.Errorf("started by %q: %+v", command, starts)
		}
		if err := (&observe.Facts{Obstacles: starts}).CheckKubeletStarts(); (err != nil) != (want > 0) {
			t.Errorf("started by %q: %v", command, err)
		}
	}
}
