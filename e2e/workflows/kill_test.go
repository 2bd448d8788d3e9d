package workflows

import (
	"iter"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// TestARestoreKilledAnywhereEndsWhollyNewOrWhollyOld kills the real binary by SIGKILL at every
// operation: while it is being carried out, and when it has finished, where the run waits for the
// kill. The simulated crashes of package phases hit every instant, this shows that they tell the
// truth.
func TestARestoreKilledAnywhereEndsWhollyNewOrWhollyOld(t *testing.T) {
	settles := []struct {
		name   string
		settle func(*node, backup, state)
	}{{"resumed", resume}, {"rolled back", rollBack}}
	for i, how := range []struct {
		name string
		at   moment
	}{
		{"at the start of", moment{state: "started"}},
		{"a little after", moment{state: "started", after: 4 * time.Millisecond}},
		{"at the end of", moment{state: "finished"}},
	} {
		for j, by := range settles {
			t.Run("killed "+how.name+" each operation and "+by.name, func(t *testing.T) {
				n, at := start(t, sandbox.Options{}), how.at
				b := n.backup()
				n.change()
				plan := n.operations("restore", b.file)
				if len(plan) < 15 {
					t.Fatalf("a restore has %d operations", len(plan))
				}
				for at.operation = range turns(len(plan), len(settles)*i+j, 3*len(settles)) {
					n.killAndSettle(at, plan, b, by.settle)
				}
			})
		}
	}
}

// turns are the operations of a plan, from 1, at which a pass kills it: those whose turn it is. The
// passes, counted from 0, kill at one operation after the other, so that each is killed once; all
// kill at each with ETCDPOD_MATRIX=full.
func turns(total, pass, passes int) iter.Seq[int] {
	first, step := 1+pass, passes
	if os.Getenv("ETCDPOD_MATRIX") == "full" {
		first, step = 1, 1
	}
	return func(yield func(int) bool) {
		for at := first; at <= total && yield(at); at += step {
		}
	}
}

// oneOf is the one of several whose turn it is, or all of them with ETCDPOD_MATRIX=full.
func oneOf[T any](turn int, all []T) []T {
	if os.Getenv("ETCDPOD_MATRIX") == "full" {
		return all
	}
	return all[turn%len(all):][:1]
}

// killAndSettle kills a restore with that plan, and ends what it leaves.
func (n *node) killAndSettle(at moment, plan []string, b backup, settle func(*node, backup, state)) {
	n.t.Helper()
	before := n.state()
	n.killAt(at, "restore", b.file, "--yes")
	run := n.lastRun()
	switch {
	case run.State == "completed" && at.operation == len(plan) && at.state == "finished":
		n.wantNew(b, before) // nothing was left but to say so
	case run.State != "open":
		n.t.Fatalf("killed %v, the run is %+v", at, run)
	default:
		n.wantStopped(run, at, plan)
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
}

// runID is the name of a run, which is another one in the plan of a dry run.
var runID = regexp.MustCompile(`\d{8}T\d{6}Z-[a-z-]+-[0-9a-f]+`)

// wantStopped holds an open run to have stopped where it was killed. An operation that was started
// may be over, and then it is the next one.
func (n *node) wantStopped(run runSummary, at moment, plan []string) {
	n.t.Helper()
	next := "close the run"
	if at.operation < len(plan) {
		next = plan[at.operation]
	}
	may := []string{next}
	if at.state == "started" {
		may = append(may, plan[at.operation-1])
	}
	plain := func(operation string) string { return runID.ReplaceAllString(operation, "") }
	if !slices.ContainsFunc(may, func(o string) bool { return plain(o) == plain(run.Operation) }) {
		n.t.Errorf("killed %v, the run has stopped at %q, and not at one of %q", at, run.Operation, may)
	}
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

// rollBack ends the open run wholly old; past the commit point it is refused,
// and the run is resumed.
func rollBack(n *node, b backup, before state) {
	n.t.Helper()
	run := n.lastRun()
	if run.Committed {
		n.want(5, []string{"rollback"}, run.ID, "past its commit point",
			"etcdpod restore --from-data-dir "+run.Path+"/data", "etcdpod resume")
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

// backupWhileOpen takes one if there is anything to take it from: an open run alone is
// no reason to refuse.
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
	case err == nil && result.Code == 1 && strings.Contains(result.Stderr, "cannot take a backup"):
		// etcd is down, or just starting.
	default:
		n.t.Errorf("a backup while a run is open ends with %d: %s", result.Code, result.Stderr)
	}
	if _, err := os.Stat(file); result.Code != 0 && err == nil {
		n.t.Errorf("a backup that failed left %s", file)
	}
}
