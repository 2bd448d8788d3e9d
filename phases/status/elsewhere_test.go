package status

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

func TestOnlyAMachineWithoutAnyTraceIsCalledNoControlPlaneNode(t *testing.T) {
	for trace, want := range map[string]bool{
		"": true, "/etc/kubernetes/kubelet.conf": true, "/etc/kubernetes/pki/ca.crt": true,
		"/var/lib/etcd/member": false, "/etc/kubernetes/admin.conf": false, "/etc/kubernetes/pki/etcd/ca.crt": false,
		"/var/lib/etcdpod/runs/x": false, "/var/lib/etcdpod/backups/x.db": false,
		"/var/lib/etcdpod/lock": true, // of a command that was refused
	} {
		disk := node.OS(t.TempDir())
		if err := os.MkdirAll(disk.Real(trace), 0o755); err != nil {
			t.Fatal(err)
		}
		if got := (&observe.Node{View: node.View{FS: disk}}).Elsewhere(nil) != ""; got != want {
			t.Errorf("with %q: %t", trace, got)
		}
	}
}

// --quiet shows findings alone, and programs know them by their code.
func TestAnotherKindOfMachineIsAFinding(t *testing.T) {
	st := notControlPlane(&observe.Facts{Node: "worker1", ManifestDir: "/etc/kubernetes/manifests",
		Elsewhere: "this is not a control-plane node"})
	if len(st.Findings) != 1 || st.Findings[0].Code != finding.NotControlPlane || st.Findings[0].Node != "worker1" ||
		len(st.Warnings) != 1 || st.Next != "" {
		t.Errorf("it is %+v", st)
	}
}

func TestADirectoryHoldsNothingOnlyIfThatWasSeen(t *testing.T) {
	for name, tt := range map[string]struct {
		put          func(snap string) error
		nothing, own bool
	}{
		"no directory":       {func(string) error { return nil }, true, false},
		"an empty directory": {func(snap string) error { return os.MkdirAll(snap, 0o700) }, true, false},
		"a file in its place": {func(snap string) error {
			return os.WriteFile(filepath.Dir(snap), nil, 0o600)
		}, true, false},
		"what cannot be looked at": {func(snap string) error { return os.Symlink("snap", snap) }, false, true},
		"a database that cannot be read": {func(snap string) error {
			return errors.Join(os.MkdirAll(snap, 0o700), os.WriteFile(snap+"/db", []byte("?"), 0o600))
		}, false, true},
		"a large database": {func(snap string) error {
			return errors.Join(os.MkdirAll(snap, 0o700), os.WriteFile(snap+"/db", nil, 0o600),
				os.Truncate(snap+"/db", 1<<30))
		}, false, true},
	} {
		disk := node.OS(t.TempDir())
		snap := disk.Real("/data/member/snap")
		parent := filepath.Dir(snap)
		if name == "a file in its place" {
			parent = filepath.Dir(parent)
		}
		if name != "no directory" {
			if err := os.MkdirAll(parent, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := tt.put(snap); err != nil {
			t.Fatal(err)
		}
		n := &observe.Node{View: (&node.Host{FS: disk, Clock: node.WallClock()}).View()}
		nothing, own := holds(t.Context(), n, &observe.EtcdPod{DataDir: "/data"})
		if nothing != tt.nothing || own != tt.own {
			t.Errorf("%s: %t, %t", name, nothing, own)
		}
	}
}
