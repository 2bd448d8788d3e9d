package workflows

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// TestARestoreKilledAnywhereEndsWhollyNewOrWhollyOld kills the real binary by SIGKILL at every operation. A kill follows what it was triggered by within
// a millisecond or so, in which the run goes on: the simulated crashes of package phases hit every instant, this shows that they tell the truth.
func TestARestoreKilledAnywhereEndsWhollyNewOrWhollyOld(t *testing.T) {
	for name, at := range map[string]moment{
		"at the start of": {state: "started"},
		"a little after":  {state: "started", after: 4 * time.Millisecond},
		"at the end of":   {state: "finished"},
	} {
		for verb, settle := range map[string]func(*node, backup, state){"resumed": resume, "rolled back": rollBack} {
			t.Run("killed "+name+" each operation and "+verb, func(t *testing.T) {
				at := at // each subtest counts for itself
				n := start(t, sandbox.Options{})
				b := n.backup()
				n.change()
				total := len(n.operations("restore", b.file))
				if total < 15 {
					t.Fatalf("a restore has %d operations", total)
				}
				stopped := map[string]bool{}
				for at.operation = 1; at.operation <= total; at.operation++ {
					stopped[n.killAndSettle(at, b, settle)] = true
				}
				if len(stopped) < total/2 { // on an idle machine it is every one, when killed at their start
					t.Errorf("%d kills hit only these operations: %v", total, slices.Sorted(maps.Keys(stopped)))
				}
			})
		}
	}
}

// killAndSettle returns the operation at which the run stopped.
func (n *node) killAndSettle(at moment, b backup, settle func(*node, backup, state)) string {
	n.t.Helper()
	before := n.state()
	killed := n.interrupt(at, (*os.Process).Kill, "restore", b.file, "--yes")
	run := n.lastRun()
	switch {
	case run.State == "completed" && (!killed || at.state == "finished"):
		n.wantNew(b, before) // it was quicker
	case run.State != "open":
		n.t.Fatalf("killed %v, the run is %+v", at, run)
	default:
		if at.after == 0 && at.state == "started" { // once for each operation is enough
			n.whileOpen(run, b)
		}
		settle(n, b, before)
	}
	if n.t.Failed() {
		n.t.Fatalf("this was after a kill %v; the run had stopped in %s, at: %s", at, run.Phase, run.Operation)
	}
	if n.lastRun().State == "completed" {
		n.done("prune", "--yes")
		n.change()
	}
	return strings.ReplaceAll(run.Operation, run.ID, "")
}

// resume ends the open run wholly new.
func resume(n *node, b backup, before state) {
	n.t.Helper()
	n.done("resume")
	n.wantNew(b, before)
	if run := n.lastRun(); run.State != "completed" {
		n.t.Errorf("after resume the run is %q", run.State)
	}
}

// rollBack ends the open run wholly old; past the commit point it is refused, and the run is resumed.
func rollBack(n *node, b backup, before state) {
	n.t.Helper()
	run := n.lastRun()
	if run.Committed {
		n.want(5, []string{"rollback"}, run.ID, "past its commit point", "etcdpod restore --from-data-dir "+run.Path+"/data", "etcdpod resume")
		resume(n, b, before)
		return
	}
	n.done("rollback")
	n.wantOld(before)
	if run := n.lastRun(); run.State != "rolled back" {
		n.t.Errorf("after rollback the run is %q", run.State)
	}
}

// whileOpen holds every other command to what it must do while a run is open.
func (n *node) whileOpen(run runSummary, b backup) {
	n.t.Helper()
	if run.Phase == "" || run.Operation == "" {
		n.t.Errorf("the open run does not say where it stopped: %+v", run)
	}
	hints := []string{run.ID, run.Phase, run.Operation, "etcdpod resume"}
	if !run.Committed {
		hints = append(hints, "etcdpod rollback")
	}
	n.want(3, []string{"restore", b.file, "--yes"}, hints...)
	n.want(3, []string{"restore", b.file, "--dry-run"}, hints...)
	n.want(3, []string{"prune", "--yes"}, run.ID)
	n.want(6, []string{"status"}, run.ID, "etcdpod resume")
	n.want(0, []string{"verify", b.file})
	n.backupWhileOpen(run)
	if now := n.lastRun(); now != run {
		n.t.Errorf("the open run was %+v and is %+v", run, now)
	}
}

// backupWhileOpen takes one if there is anything to take it from: an open run alone is no reason to refuse.
func (n *node) backupWhileOpen(run runSummary) {
	n.t.Helper()
	must(n.t, os.MkdirAll(n.Path("/srv"), 0o755))
	file := n.Path("/srv/" + time.Now().Format("150405.000000000") + ".db")
	result := n.run("backup", file)
	_, err := os.Stat(n.Path(sandbox.ManifestDir + "/etcd.yaml"))
	switch {
	case result.Code == 0:
		n.want(0, []string{"verify", file})
		must(n.t, os.Remove(file))
	case os.IsNotExist(err) && result.Code == 5 && strings.Contains(result.Stderr, run.ID):
	case err == nil && result.Code == 1 && strings.Contains(result.Stderr, "cannot take a backup"): // etcd is down, or just starting
	default:
		n.t.Errorf("a backup while a run is open ends with %d: %s", result.Code, result.Stderr)
	}
	if _, err := os.Stat(file); result.Code != 0 && err == nil {
		n.t.Errorf("a backup that failed left %s", file)
	}
}
