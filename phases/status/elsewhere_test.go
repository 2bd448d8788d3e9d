package status

import (
	"os"
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
