package crashtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// Situation is what a workflow finds on a node, and what it is asked to do there.
type Situation interface {
	Title() string
	// Machine makes the node.
	Machine(*testing.T) *sim.Machine
}

// Cases makes a case of each situation; on puts the workflow on its node, as in [Case].
func Cases[S Situation](all []S, on func(s S, w *Node, before *sim.Machine) Subject) (cases []Case) {
	for _, s := range all {
		cases = append(cases, Case{Name: s.Title(), Machine: s.Machine,
			On: func(w *Node, before *sim.Machine) Subject { return on(s, w, before) }})
	}
	return cases
}

// Everything plays what can happen at any step of a workflow on one node. What an earlier version
// left open, if one had this workflow, is [LeftOpen].
func Everything(t *testing.T, cases []Case) {
	for _, what := range []struct {
		name string
		play func(*testing.T, []Case)
	}{
		{"stopped", StoppedAnywhere},
		{"interrupted", InterruptedAnywhere},
		{"a step fails", FailedAnywhere},
		{"somebody else acts", Meddled},
	} {
		t.Run(what.name, func(t *testing.T) { what.play(t, cases) })
	}
}

// Alone puts an etcdpod on a machine that nothing has happened to yet.
func Alone(t *testing.T, machine *sim.Machine) *Node {
	t.Helper()
	return Over(t, "cp1", machine, machine)
}

// OldOrNew says how a run ended: "old" if the machine looks as it did before, and otherwise "new",
// unless isNew finds something wrong with how it looks now. Neither leaves a key lying about.
func (w *Node) OldOrNew(isNew func(look string) error) (string, error) {
	look, err := w.Ended()
	if err == nil {
		err = w.noKeyLeft()
	}
	if err == nil && look == w.First {
		return "old", nil
	}
	if err == nil {
		err = isNew(look)
	}
	if err != nil {
		return "", err
	}
	return "new", nil
}

// Shows says which of these the look of a machine lacks, if any.
func Shows(look string, all ...string) error {
	for _, want := range all {
		if !strings.Contains(look, want) {
			return fmt.Errorf("neither old nor new: no %q in\n%s", want, look)
		}
	}
	return nil
}
