package restore

import (
	"errors"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
)

// A test that cannot fail proves nothing: the crash matrix must catch each of these deliberate
// mistakes.
func TestTheCrashMatrixCatchesMistakesInTheEngine(t *testing.T) {
	mistakes := []struct {
		name string
		make func(*crashtest.Node)
	}{
		{"the journal is written after the act", func(w *crashtest.Node) { w.Process.Faults.JournalAfterAct = true }},
		{"directories are not synced", func(w *crashtest.Node) { w.Machine.ForgetDirSync = true }},
		{"operations are undone first to last", func(w *crashtest.Node) { w.Process.Faults.UndoForward = true }},
		{"inodes are recorded after the journal entry", func(w *crashtest.Node) { w.Process.Faults.RecordLate = true }},
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

func TestTheMatrixOfTheSecondActorCatchesMistakes(t *testing.T) {
	for name, mistake := range map[string]func(*crashtest.Node){
		"nobody asks what clients have written":  func(w *crashtest.Node) { w.Process.Faults.PromisesUnasked = true },
		"nobody looks whether the data is there": func(w *crashtest.Node) { w.Process.Faults.DataUnlooked = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if caught := crashtest.MeddledCatch(t, restores()[0], mistake); caught == "" {
				t.Error("the matrix did not notice")
			} else {
				t.Log("caught: " + caught)
			}
		})
	}
}

// catch runs the matrix with a mistake until something goes wrong.
func catch(t *testing.T, mistake func(*crashtest.Node)) string {
	one := restores()[0]
	for _, how := range crashtest.Crashes() {
		for _, recovery := range []string{"resume", "rollback"} {
			for at := range one.Calls(t) {
				w, sub := one.Fresh(t)
				mistake(w)
				s := crashtest.Stop{At: at + 1, How: how, Recovery: recovery}
				if _, err := w.Play(sub, s); err != nil && !errors.Is(err, crashtest.ErrNotStopped) {
					return s.String() + ": " + err.Error()
				}
			}
		}
	}
	return ""
}

// If etcd never becomes healthy, the run rolls back by itself.
func TestAnEtcdThatNeverServesIsRolledBack(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, s)
			w.Machine.SickEtcd = true
			err := w.restore()
			if !crashtest.IsRolledBack(err) {
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
				w.Machine.KubeletStartedAt = at
				if err := w.restore(); err != nil {
					t.Fatalf("kubelet started before step %d: %v", at, err)
				}
				if outcome, err := w.verdict(); outcome != "new" {
					t.Fatalf("kubelet started before step %d: it ended %q: %v", at, outcome, err)
				}
				if w.Machine.Steps < at {
					return
				}
			}
		})
	}
}
