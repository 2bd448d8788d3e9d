package workflows

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// atOperation is the moment at which an operation whose words begin so is started, the last time.
func atOperation(prefix string) func(event) bool {
	return func(e event) bool { return e.State == "started" && strings.HasPrefix(e.Operation, prefix) }
}

// controlPlane are the containers that the fence keeps down.
func (n *node) controlPlane() []string {
	n.t.Helper()
	return slices.DeleteFunc(n.running(), func(c string) bool {
		return !strings.HasPrefix(c, "etcd ") && !strings.HasPrefix(c, "kube-")
	})
}

// wantFenced watches for a second, five times the kubelet's interval, that nothing of the
// control plane comes up.
func (n *node) wantFenced() {
	n.t.Helper()
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if up := n.controlPlane(); len(up) > 0 {
			n.t.Fatalf("in the fence these run: %v", up)
		}
	}
}

// TestARestoreCutOffByARebootEndsWhollyNewOrWhollyOld ends everything on the node at once, etcdpod,
// etcd and kubelet included, and starts the node again.
func TestARestoreCutOffByARebootEndsWhollyNewOrWhollyOld(t *testing.T) {
	points := []struct {
		operation string
		fenced    bool // nothing of the control plane may come up after the reboot
	}{
		{"stage ", false},
		{"stop the kubelet", false},
		{"stop the containers", true},
		{"exchange ", true},
		{"start the kubelet", false},
		{"wait until etcd serves", false},
		{"wait until the API server", false},
	}
	for verb, settle := range map[string]func(*node, backup, state){"resumed": resume, "rolled back": rollBack} {
		t.Run("rebooted and "+verb, func(t *testing.T) {
			n := start(t, sandbox.Options{})
			b := n.backup()
			n.change()
			for _, p := range points {
				before := n.state()
				if !n.interruptWhen(atOperation(p.operation),
					func(*os.Process) error { return n.Crash() }, "restore", b.file, "--yes") {
					t.Fatalf("the restore ended before %q", p.operation)
				}
				must(t, n.StartRuntime(n.ctx))
				must(t, n.StartKubelet(n.ctx))
				if p.fenced {
					n.wantFenced()
				}
				if run := n.lastRun(); run.State != "open" {
					t.Fatalf("rebooted at %q, the run is %+v", p.operation, run)
				}
				settle(n, b, before)
				if t.Failed() {
					t.Fatalf("this was after a reboot at %q", p.operation)
				}
				if n.lastRun().State == "completed" {
					n.change()
				}
			}
		})
	}
}

func TestAKubeletThatSomebodyStartsInTheFenceStartsNothingOfTheControlPlane(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.change()
	before := n.state()
	n.killWhen(atOperation("exchange "), "restore", b.file, "--yes")
	must(t, n.StartKubelet(n.ctx))
	n.wantFenced()
	resume(n, b, before)
}

func TestAManifestThatSomebodyPutsBackIntoTheFenceIsTakenOutAgain(t *testing.T) {
	for verb, settle := range map[string]func(*node, backup, state){"resumed": resume, "rolled back": rollBack} {
		t.Run(verb, func(t *testing.T) {
			n := start(t, sandbox.Options{})
			b := n.backup()
			n.change()
			before := n.state()
			n.killWhen(atOperation("stop the containers"), "restore", b.file, "--yes")
			run := n.lastRun()
			manifest, err := os.ReadFile(n.Path(run.Path + "/manifests/etcd.yaml"))
			must(t, err)
			must(t, os.WriteFile(n.Path(sandbox.ManifestDir+"/etcd.yaml"), manifest, 0o600))
			must(t, n.StartKubelet(n.ctx))
			must(t, n.WaitEtcd(n.ctx))
			settle(n, b, before)
		})
	}
}
