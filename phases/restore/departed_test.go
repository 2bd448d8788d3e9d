package restore

import (
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
)

// Whoever has kubeadm render etcd's manifest again, on the node of a member that was removed, may
// begin a cluster of its own there.
func TestNobodyIsToldToRenderTheManifestOfARemovedMember(t *testing.T) {
	w := crashtest.Alone(t, crashtest.Shape{}.Machine(t))
	run := w.Removed()
	f, err := restorer{}.observe(t.Context(), w.Process.Look, "20260801T020000Z-restore-3f1a")
	if err != nil {
		t.Fatal(err)
	}
	err = restorer{}.checkPods(f)
	crashtest.Refused(t, err, "its member was removed from the cluster by run "+run, "on a node whose etcd is a member")
	if hint := engine.Hint(err); strings.Contains(hint, "kubeadm init") {
		t.Errorf("it proposes %q", hint)
	}
}
