package workflows

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// TestARecoveryThatIsKilledItselfIsOnlyBegunAnew kills resume and rollback, too, again and again,
// each time at a later step.
func TestARecoveryThatIsKilledItselfIsOnlyBegunAnew(t *testing.T) {
	recoveries := map[string]struct {
		command, state string // the events at which it is killed
		settle         func(*node, backup, state)
	}{
		"resume":   {"resume", "started", resume},
		"rollback": {"rollback", "undoing", rollBack},
	}
	for name, r := range recoveries {
		t.Run(name, func(t *testing.T) {
			n := start(t, sandbox.Options{})
			b := n.backup()
			n.change()
			before := n.state()
			n.killWhen(atOperation("compare "), "restore", b.file, "--yes")
			if r.command == "resume" { // from the beginning, nearly
				n.done("rollback")
				n.killWhen(atOperation("stop the kubelet"), "restore", b.file, "--yes")
			}
			kills := 0
			for n.lastRun().State == "open" && kills < 30 {
				seen := 0
				if !n.interruptWhen(func(e event) bool {
					if e.State == r.state {
						seen++
					}
					return seen == 2 // one step further than the last time
				}, (*os.Process).Kill, r.command) {
					break
				}
				kills++
			}
			if kills < 5 {
				t.Errorf("the recovery was killed only %d times", kills)
			}
			if n.lastRun().State == "open" {
				r.settle(n, b, before)
				return
			}
			if r.command == "resume" {
				n.wantNew(b, before)
			} else {
				n.wantOld(before)
			}
		})
	}
}

func TestARestoreThatIsKilledWhileItGoesBackGoesAllTheWayBack(t *testing.T) {
	for _, verb := range []string{"rollback", "resume"} {
		t.Run(verb, func(t *testing.T) {
			n := start(t, sandbox.Options{MaxBackoff: 500 * time.Millisecond})
			b := n.backup()
			n.change()
			before := n.state()
			n.impostor("exec sleep 1000")
			goesBack := func(e event) bool { return e.State == "undoing" && e.Phase == "exchange-data" }
			n.killWhen(goesBack, "restore", b.file, "--yes", "--wait-timeout", "1s")
			run := n.lastRun()
			if run.State != "open" || !run.Aborted {
				t.Fatalf("the run is %+v", run)
			}
			n.want(3, []string{"restore", b.file, "--yes"}, run.ID, "etcdpod rollback")
			// What was to be resumed has failed.
			code := map[string]int{"rollback": 0, "resume": 1}[verb]
			n.want(code, []string{verb}, "as before")
			n.wantOld(before)
		})
	}
}

// TestAnInterruptTakesARestoreBack sends what Ctrl-C sends, and lets the restore go on when it
// knows.
func TestAnInterruptTakesARestoreBack(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.change()
	before := n.state()
	if n.interruptWhen(atOperation("exchange "), n.signal(os.Interrupt), "restore", b.file, "--yes") {
		t.Error("the interrupt killed it")
	}
	if run := n.lastRun(); run.State != "rolled back" {
		t.Errorf("the run is %+v", run)
	}
	n.wantOld(before)
}

func TestPruneKeepsWhatTheNewestRestoreReplaced(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	n.change()
	n.done("restore", b.file, "--yes")
	first := n.lastRun()
	n.change()
	n.put("/registry/configmaps/late/kept", "{}")
	before := n.state()
	n.done("restore", b.file, "--yes")
	second := n.lastRun()
	n.untouched(func() { n.want(0, []string{"prune", "--dry-run"}, first.ID) })
	n.untouched(func() { n.want(0, []string{"prune", "--yes", "--older-than", "1h"}) })
	n.done("prune", "--yes")
	left, err := os.ReadDir(n.Path(first.Path))
	if err != nil || len(left) != 1 || left[0].Name() != "journal" {
		t.Errorf("of the first run there is %v, %v, and not its journal alone", left, err)
	}
	var st syscall.Stat_t
	must(t, syscall.Stat(n.Path(first.Path+"/journal"), &st))
	if room := st.Blocks * 512; room > 64<<10 {
		t.Errorf("its journal takes %d bytes", room)
	}
	n.want(0, []string{"runs", "show", first.ID}, "typed", "exchange-data", "commit point")
	restored := n.state()
	n.done("restore", "--from-data-dir", second.Path+"/data", "--yes")
	n.wantNew(backup{keys: before.keys}, restored)
	n.done("verify", b.file)
}
