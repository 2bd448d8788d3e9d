package restore

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// What only looks keeps nothing down and no run open: an API server that accepts no kubeconfig is
// waited for no longer than it takes to see that it answers, and not read back through.
func TestWithoutRightsARestoreEndsWithEverythingRunning(t *testing.T) {
	for status, cure := range map[int]string{401: "kubeadm certs renew admin.conf", 403: "kubeconfig super-admin"} {
		w := newWorld(t, scenario{})
		w.Machine.DeniedWith = status
		var said []string
		w.Process.Emit = func(e engine.Event) {
			if e.State == engine.Noted {
				said = append(said, e.Message)
			}
		}
		began := w.Machine.Host().Clock.Now()
		if err := w.restore(); err != nil {
			t.Fatalf("%d: it ended with %v, hint %q", status, err, engine.Hint(err))
		}
		if outcome, err := w.verdict(); outcome != "new" {
			t.Errorf("%d: it ended %q: %v", status, outcome, err)
		}
		if took := w.Machine.Host().Clock.Now().Sub(began); took.Seconds() > 60 {
			t.Errorf("%d: it took %s", status, took)
		}
		if !slices.ContainsFunc(said, func(s string) bool {
			return strings.Contains(s, "the objects were not read back") && strings.Contains(s, cure)
		}) {
			t.Errorf("%d: it says %q", status, said)
		}
	}
}

// Nor is an API server that refuses whoever asks taken for one that does not serve, after going
// back.
func TestWithoutRightsARestoreThatGoesBackIsSeenToServe(t *testing.T) {
	w := newWorld(t, scenario{})
	w.Machine.DeniedWith, w.Machine.SickEtcd = 403, true
	if err := w.restore(); !crashtest.IsRolledBack(err) {
		t.Fatalf("it ended with %v", err)
	}
	if outcome, err := w.verdict(); outcome != "old" {
		t.Errorf("it ended %q: %v", outcome, err)
	}
}

// On several nodes, too, a node without a kubeconfig that works only says so.
func TestWithoutRightsOnOneNodeARestoreOnSeveralEnds(t *testing.T) {
	c := newCluster(t, "cp1", "cp2", "cp3")
	c.Nodes["cp2"].Machine.DeniedWith = 401
	if err := c.Run("cp1"); err != nil {
		t.Fatalf("it ended with %v, hint %q", err, engine.Hint(err))
	}
	if v, wrong := c.Verdict(); wrong != nil || v != "new" || !c.Settled() {
		t.Errorf("it ended %s: %v", v, wrong)
	}
}

func TestAKubeconfigThatCannotWorkIsSaidBeforeAnythingIsStopped(t *testing.T) {
	const admin, super = "/etc/kubernetes/admin.conf", "/etc/kubernetes/super-admin.conf"
	expired := observe.Kubeconfig{Path: admin, Problem: admin + " expired on Monday",
		Fix: "run `kubeadm certs renew admin.conf`"}
	f := &Facts{Facts: crashtest.SeenFacts(t, "run")}
	f.Kubeconfigs = []observe.Kubeconfig{expired}
	err := restorer{}.checkPods(f)
	var refused *engine.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "expired on Monday") ||
		!strings.Contains(refused.Hint, "kubeadm certs renew admin.conf") {
		t.Errorf("it says %v", err)
	}
	f.Kubeconfigs, f.API.Kubeconfig = []observe.Kubeconfig{{Path: super}, expired}, super
	if err := (restorer{}).checkPods(f); err != nil {
		t.Errorf("with another one: %v", err)
	}
	found := strings.Join(append(foundReader(f), finding.Texts(warnedOfReader(f))...), "; ")
	if !strings.Contains(found, "read back with "+super) || !strings.Contains(found, "cannot use "+admin) {
		t.Errorf("it says %q", found)
	}
	f.Snapshot = &SnapshotFacts{NoAdmins: true}
	if said := strings.Join(finding.Texts(warnedOfReader(f)), "; "); strings.Contains(said, "will have no rights") {
		t.Errorf("one needs no binding, and it says %q", said)
	}
	f.Kubeconfigs, f.API.Kubeconfig = []observe.Kubeconfig{{Path: admin, NeedsBinding: true}}, admin
	said := strings.Join(finding.Texts(warnedOfReader(f)), "; ")
	if !strings.Contains(said, admin+" will have no rights") ||
		!strings.Contains(said, "kubeadm init phase kubeconfig super-admin") {
		t.Errorf("it says %q", said)
	}
}
