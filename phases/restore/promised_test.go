package restore

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// Somebody else acts in the middle of a restore: what the matrix tries everywhere, each once, with
// the words that a person reads.

const apiServerFile = crashtest.TestManifestDir + "/kube-apiserver.yaml"

// servedBehindOurBack is a node whose restore was killed between the release of etcd and the commit
// point, and on which somebody then start the API server by hand.
func servedBehindOurBack(t *testing.T) *restoreWorld {
	t.Helper()
	w := cutOff(t, "disarm alarms")
	w.Machine.Meddled = true
	w.Machine.Write(apiServerFile, crashtest.PodManifest("kube-apiserver", "", ""))
	w.Machine.Wait(5 * time.Second)
	if len(w.Machine.Acked()) != 1 {
		t.Fatalf("the API server has not written: %s", w.Machine.Runs())
	}
	return w
}

// lock is where whoever types a command writes its name.
const lock = "/var/lib/etcdpod/lock"

func TestARollbackThatWouldGiveUpAWriteIsRefusedAndSaysHowToKeepEither(t *testing.T) {
	w := servedBehindOurBack(t)
	before := w.Machine.Look(lock)
	err := w.Settle("rollback")
	var refused *engine.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "clients have written to the new data") ||
		!strings.Contains(refused.Hint, "`etcdpod resume`") || !strings.Contains(refused.Hint, "--give-up-writes") {
		t.Fatalf("it says %v, hint %q", err, engine.Hint(err))
	}
	if now := w.Machine.Look(lock); now != before {
		t.Errorf("it touched something:\n%s\nand before\n%s", now, before)
	}
	w.Restart()
	if err := w.Settle("resume"); err != nil {
		t.Fatal(err)
	}
	outcome, err := w.verdict()
	if outcome != "new" || !strings.Contains(w.Machine.EtcdData(), w.Machine.Acked()[0]) {
		t.Errorf("it ended %q (%v), and etcd holds %q", outcome, err, w.Machine.EtcdData())
	}
}

func TestWritesThatAPersonGivesUpAreKept(t *testing.T) {
	w := servedBehindOurBack(t)
	w.Process.GiveUp(true)
	if err := w.Settle("rollback"); err != nil {
		t.Fatal(err)
	}
	if outcome, err := w.verdict(); outcome != "old" {
		t.Errorf("it ended %q: %v", outcome, err)
	}
	if kept := w.Machine.Holds(w.Machine.Acked()[0]); len(kept) != 2 { // the database, and its log
		t.Errorf("what was written is kept in %q", kept)
	}
}

// Only a person is asked: a run that fails by itself goes back, and keeps what nobody can read.
func TestALogThatCannotBeReadIsAskedAboutBeforeARollback(t *testing.T) {
	w := servedBehindOurBack(t)
	w.Machine.SickLog = true
	before := w.Machine.Look(lock)
	err := w.Settle("rollback")
	var refused *engine.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "input/output error") ||
		!strings.Contains(refused.Hint, "`etcdpod resume`") || !strings.Contains(refused.Hint, "--give-up-writes") {
		t.Fatalf("it says %v, hint %q", err, engine.Hint(err))
	}
	if now := w.Machine.Look(lock); now != before {
		t.Errorf("it touched something:\n%s\nand before\n%s", now, before)
	}
	w.Restart()
	w.Process.GiveUp(true)
	if err := w.Settle("rollback"); err != nil {
		t.Fatal(err)
	}
	outcome, err := w.verdict()
	if kept := w.Machine.Holds(w.Machine.Acked()[0]); outcome != "old" || len(kept) != 2 {
		t.Errorf("it ended %q (%v), and what was written is kept in %q", outcome, err, kept)
	}
}

func TestARunThatFailsWhereTheLogCannotBeReadGoesBackAndKeepsTheData(t *testing.T) {
	w := servedBehindOurBack(t)
	w.Machine.SickLog, w.Machine.SickEtcd = true, true
	err := w.Settle("resume")
	w.Machine.SickEtcd = false
	w.Machine.Wait(time.Minute)
	if crashtest.IsOpen(err) {
		t.Fatalf("it stays open: %v, hint %q", err, engine.Hint(err))
	}
	outcome, _ := w.verdict()
	if kept := w.Machine.Holds(w.Machine.Acked()[0]); outcome != "old" || len(kept) != 2 {
		t.Errorf("it ended %q (%v), and what was written is kept in %q", outcome, err, kept)
	}
}

func TestARunThatFailsAfterAWriteDoesNotGoBackByItself(t *testing.T) {
	w := servedBehindOurBack(t)
	w.Machine.SickEtcd = true
	err := w.Settle("resume")
	if !crashtest.IsOpen(err) || !strings.Contains(engine.Hint(err), "--give-up-writes") {
		t.Fatalf("it says %v, hint %q", err, engine.Hint(err))
	}
	w.Machine.SickEtcd = false
	w.Restart()
	if err := w.Settle("resume"); err != nil {
		t.Fatal(err)
	}
	if outcome, err := w.verdict(); outcome != "new" {
		t.Errorf("it ended %q: %v", outcome, err)
	}
}

func TestALogThatCannotBeReadOnOneOfSeveralNodesIsAskedAboutToo(t *testing.T) {
	asked := 0
	for _, s := range cutOffTogether(t) {
		c := s.Fork()
		c.Nodes["cp2"].Machine.SickLog = true
		err := c.Obey(crashtest.Order{Back: true, At: "cp1"})
		var refused *engine.RefusedError
		if !errors.As(err, &refused) || !strings.Contains(refused.Hint, " on cp2") {
			continue // its new data is not in place, or the commit point is behind
		}
		asked++
		err = c.Obey(crashtest.Order{Back: true, At: "cp3", GiveUp: true})
		if v, outcome := c.Verdict(); err != nil || v != "old" {
			t.Errorf("it ended %q: %v, %v", v, err, outcome)
		}
	}
	if asked == 0 {
		t.Error("nobody was asked")
	}
}

// While the third node releases its etcd, configuration management puts the API server's manifest
// back on the first, where nobody looks.
func TestAnAPIServerPutBackOnANodeThatWaitsIsFoundBeforeTheCommitPoint(t *testing.T) {
	work := onNodes("cp1", "cp2", "cp3")
	work.Check = nil // it knows only of what etcdpod starts
	c := work.Fresh(t)
	found := ""
	c.Heard = func(e engine.Event) {
		if e.State == engine.Noted && e.Node == "cp1" && strings.Contains(e.Message, "appeared while") {
			found = e.Message
		}
	}
	first, third := c.Nodes["cp1"].Machine, c.Nodes["cp3"].Machine
	next, acted := third.Before, false
	third.Before = func(call string) {
		next(call)
		if !acted && strings.HasPrefix(call, "create "+crashtest.TestManifestDir+"/.etcd.yaml") {
			acted, first.Meddled = true, true
			first.Write(apiServerFile, crashtest.PodManifest("kube-apiserver", "", ""))
		}
	}
	if err := c.Run("cp1"); err != nil || !acted {
		t.Fatal(acted, err)
	}
	if v, err := c.Verdict(); v != "new" || err != nil {
		t.Errorf("it ended %q: %v", v, err)
	}
	if !strings.Contains(found, "kube-apiserver.yaml") {
		t.Errorf("nobody found it: %q", found)
	}
}

func TestAMountBelowTheDataIsNotCarriedAlong(t *testing.T) {
	for _, name := range []string{"/var/lib/etcd/member", "/var/lib/etcd/member/snap/db", "/var/lib/etcd/member/wal"} {
		w := newWorld(t, scenario{Shape: crashtest.Shape{Prepare: func(d *sim.Disk) { d.Mounts = []string{name} }}})
		err := w.restore()
		if !crashtest.IsRolledBack(err) || !strings.Contains(err.Error(), "something is mounted at "+name) {
			t.Errorf("%s: it says %v", name, err)
		}
		if outcome, err := w.verdict(); outcome != "old" {
			t.Errorf("%s: it ended %q: %v", name, outcome, err)
		}
	}
}

// Somebody fills /etc once etcd's manifest is back: the original waits beside it until the commit
// point.
func TestThereIsRoomToGoBackWhenEtcHasFilledUp(t *testing.T) {
	w := newWorld(t, scenario{Shape: crashtest.Shape{Prepare: func(d *sim.Disk) { d.Mounts = []string{"/etc"} }}})
	w.Machine.SickEtcd, w.Machine.FullBelow = true, "/etc/"
	w.Machine.Before = func(call string) {
		if call == "start the kubelet" {
			w.Machine.Full = true
		}
	}
	if err := w.restore(); !crashtest.IsRolledBack(err) {
		t.Fatalf("it ended with %v", err)
	}
	if outcome, err := w.verdict(); outcome != "old" {
		t.Errorf("it ended %q: %v", outcome, err)
	}
}

// With an anchor the kubelet runs it, and it cannot be edited as text.
func TestAManifestWithAnAnchorDoesNotSlipPastTheFence(t *testing.T) {
	w := cutOff(t, "exchange ")
	text := strings.Replace(crashtest.PodManifest("kube-apiserver", "", ""),
		"  - command:\n    - kube-apiserver\n", "  - command: &run\n    - kube-apiserver\n    args: *run\n", 1)
	w.Machine.Aside(func() { w.Machine.Write(apiServerFile, text) })
	if err := w.Settle("resume"); err != nil {
		t.Fatal(err)
	}
	if outcome, err := w.verdict(); outcome != "new" {
		t.Errorf("it ended %q: %v", outcome, err)
	}
	if len(w.Machine.Holds("&run")) != 1 {
		t.Error("it is gone")
	}
}
