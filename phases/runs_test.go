package phases

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// cutOff returns a node whose restore was killed when it was about to make the named call.
func cutOff(t *testing.T, call string) *world {
	t.Helper()
	for at := 1; ; at++ {
		w := newWorld(t, scenario{})
		w.machine.CrashAt = at
		if err := w.restore(); !w.machine.Crashed() {
			t.Fatalf("no step of a restore is %q: %v", call, err)
		}
		if strings.HasPrefix(w.machine.Calls[at-1], call) {
			w.machine.Revive()
			w.restart()
			return w
		}
	}
}

func operations(p Plan) string {
	var all []string
	for _, phase := range p.Phases {
		all = append(all, phase.Operations...)
	}
	return strings.Join(all, "\n")
}

func TestWhatIsLeftOfAnOpenRunIsShownBothWays(t *testing.T) {
	w := cutOff(t, "exchange ")
	before := w.machine.Look()
	forward, err := w.node.PreviewOpen(context.Background(), false)
	if err != nil {
		t.Fatal(err)
	}
	if ops := operations(forward); !strings.HasPrefix(ops, "exchange ") || !strings.Contains(ops, "start the kubelet") || strings.Contains(ops, "stop the kubelet") {
		t.Errorf("resume would do\n%s", ops)
	}
	back, err := w.node.PreviewOpen(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}
	if ops := operations(back); !strings.HasPrefix(ops, "undo: exchange ") || !strings.Contains(ops, "undo: stage ") || strings.Contains(ops, "start the kubelet") {
		t.Errorf("rollback would do\n%s", ops)
	}
	if w.machine.Look() != before {
		t.Error("looking changed something")
	}
}

func TestPastTheCommitPointThereIsNoWayBackToShow(t *testing.T) {
	w := cutOff(t, "release a lease")
	_, err := w.node.PreviewOpen(context.Background(), true)
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Hint, "resume") {
		t.Errorf("it says %v", err)
	}
	if err := w.node.Rollback(context.Background()); !errors.As(err, &refused) {
		t.Errorf("rollback says %v", err)
	}
}
