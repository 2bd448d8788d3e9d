package phases

import (
	"errors"
	"syscall"
	"testing"
)

// A test that cannot fail proves nothing: each of these mistakes, made on purpose, must be caught by the crash matrix.
func TestTheCrashMatrixCatchesMistakesInTheEngine(t *testing.T) {
	mistakes := []struct {
		name string
		make func(*world)
	}{
		{"the journal is written after the act", func(w *world) { w.node.faults.JournalAfterAct = true }},
		{"directories are not synced", func(w *world) { w.machine.ForgetDirSync = true }},
		{"operations are undone first to last", func(w *world) { w.node.faults.UndoForward = true }},
		{"inodes are recorded after the journal entry", func(w *world) { w.node.faults.RecordLate = true }},
	}
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			if caught := catch(t, m.make); caught == "" {
				t.Error("the matrix did not notice")
			} else {
				t.Log("caught: " + caught)
			}
		})
	}
}

// catch plays the matrix with a mistake until something is wrong.
func catch(t *testing.T, mistake func(*world)) string {
	for _, how := range crashes() {
		for _, recovery := range []string{"resume", "rollback"} {
			for at := 1; ; at++ {
				w := newWorld(t, scenario{name: "one file system"})
				mistake(w)
				_, stopped, err := w.play(stop{at: at, how: how, recovery: recovery})
				if err != nil {
					return stop{at: at, how: how, recovery: recovery}.String() + ": " + err.Error()
				}
				if !stopped {
					break
				}
			}
		}
	}
	return ""
}

// What fails, rather than crashes, takes everything back by itself before the commit point.
func TestAFailureAtAnyStepBeforeTheCommitPointTakesEverythingBack(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for at := 1; ; at++ {
				w := newWorld(t, s)
				w.machine.FailAt, w.machine.FailWith = at, errNoSpace
				err := w.restore()
				if w.machine.Steps < at {
					return // it has no more steps
				}
				checkFailed(t, w, at, err)
				if t.Failed() {
					return
				}
			}
		})
	}
}

// checkFailed: wholly old when the restore says so, or open and settled by the next command.
func checkFailed(t *testing.T, w *world, at int, err error) {
	t.Helper()
	call := w.machine.Calls[at-1]
	if isOpen(err) {
		w.restart()
		err = w.settle("resume")
		if isOpen(err) {
			t.Errorf("step %d (%s) failed once, and the run stays open: %v", at, call, err)
			return
		}
	}
	outcome, verdict := w.verdict()
	switch {
	case verdict != nil:
		t.Errorf("step %d (%s) failed: %v", at, call, verdict)
	case err != nil && outcome != "old":
		t.Errorf("step %d (%s) failed: the command failed (%v), and everything is new", at, call, err)
	case err == nil && outcome != "new":
		t.Errorf("step %d (%s) failed: the command succeeded, and everything is old", at, call)
	}
}

// An etcd that never becomes healthy is rolled back by itself.
func TestAnEtcdThatNeverServesIsRolledBack(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, s)
			w.machine.SickEtcd = true
			err := w.restore()
			if !isRolledBack(err) {
				t.Fatalf("the restore ended with %v", err)
			}
			if outcome, err := w.verdict(); outcome != "old" {
				t.Errorf("it ended %q: %v", outcome, err)
			}
		})
	}
}

// Somebody, or something, starts the kubelet while the fence is up.
func TestAKubeletStartedByAnybodyAtAnyStepDoesNoHarm(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for at := 1; ; at++ {
				w := newWorld(t, s)
				w.machine.KubeletStartedAt = at
				if err := w.restore(); err != nil {
					t.Fatalf("kubelet started before step %d: %v", at, err)
				}
				if outcome, err := w.verdict(); outcome != "new" {
					t.Fatalf("kubelet started before step %d: it ended %q: %v", at, outcome, err)
				}
				if w.machine.Steps < at {
					return
				}
			}
		})
	}
}

var errNoSpace = syscall.ENOSPC

func isOpen(err error) bool {
	var open *OpenRunError
	return errors.As(err, &open)
}

func isRolledBack(err error) bool {
	var back *RolledBackError
	return errors.As(err, &back)
}
