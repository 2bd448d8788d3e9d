package restore

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// cutOff returns a node whose restore was killed just before the named call.
func cutOff(t *testing.T, call string) *restoreWorld {
	t.Helper()
	return cutOffIn(t, scenario{}, call)
}

func cutOffIn(t *testing.T, s scenario, call string) *restoreWorld {
	t.Helper()
	for at := 1; ; at++ {
		w := newWorld(t, s)
		w.Machine.CrashAt = at
		if err := w.restore(); !w.Machine.Crashed() {
			t.Fatalf("no step of a restore is %q: %v", call, err)
		}
		if strings.HasPrefix(w.Machine.Calls[at-1], call) {
			w.Machine.Revive()
			w.Restart()
			return w
		}
	}
}

func operations(p engine.Plan) string {
	var all []string
	for _, phase := range p.Phases {
		all = append(all, phase.Operations...)
	}
	return strings.Join(all, "\n")
}

func TestWhatIsLeftOfAnOpenRunIsShownBothWays(t *testing.T) {
	w := cutOff(t, "exchange ")
	before := w.Machine.Look()
	forward, err := w.Process.PreviewOpen(context.Background(), false)
	if err != nil {
		t.Fatal(err)
	}
	if ops := operations(forward.Nodes[0].Plan); !strings.HasPrefix(ops, "exchange ") ||
		!strings.Contains(ops, "start the kubelet") || strings.Contains(ops, "stop the kubelet") {
		t.Errorf("resume would do\n%s", ops)
	}
	back, err := w.Process.PreviewOpen(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}
	if ops := operations(back.Nodes[0].Plan); !strings.HasPrefix(ops, "undo: exchange ") ||
		!strings.Contains(ops, "undo: stage ") || strings.Contains(ops, "start the kubelet") {
		t.Errorf("rollback would do\n%s", ops)
	}
	if w.Machine.Look() != before {
		t.Error("looking changed something")
	}
}

func TestPastTheCommitPointThereIsNoWayBackToShow(t *testing.T) {
	w := cutOff(t, "release a lease")
	_, err := w.Process.PreviewOpen(context.Background(), true)
	var refused *engine.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Hint, "resume") {
		t.Errorf("it says %v", err)
	}
	if err := w.Process.Rollback(context.Background()); !errors.As(err, &refused) {
		t.Errorf("rollback says %v", err)
	}
}

// The dry run prints exactly what the run does, and does nothing itself.
func TestADryRunShowsTheVeryOperationsAndTouchesNothing(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, s)
			restore := Workflow(s.options)
			restore.Observe = w.facts
			steps := w.Machine.Steps
			shown, err := w.Process.Preview(context.Background(), restore.On(w.Process.Look))
			if err != nil {
				t.Fatal(err)
			}
			if w.Machine.Steps != steps {
				t.Errorf("the dry run made these calls: %v", w.Machine.Calls[steps:])
			}
			var done []string
			w.Process.Emit = func(e engine.Event) {
				if e.State == engine.Finished {
					done = append(done, e.Operation)
				}
			}
			if err := w.restore(); err != nil {
				t.Fatal(err)
			}
			// Names contain the run's id, which differs from run to run.
			runs, err := w.Process.Runs(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			plain := strings.ReplaceAll(strings.Join(done, "\n"), runs[0].ID, "RUN")
			want := runInNames.ReplaceAllString(operations(shown), "RUN")
			if plain != want {
				t.Errorf("the dry run showed\n%s\nand the run did\n%s", want, plain)
			}
		})
	}
}

var runInNames = regexp.MustCompile(`\d{8}T\d{6}Z-restore-[0-9a-f]{4}`)
