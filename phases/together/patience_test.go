package together

import (
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// What goes back waits as the way forward does, and says nothing meanwhile: a run must not stay
// open because somebody gave its API server more time than a disk is given.
func TestGoingBackIsGivenTheTimeOfItsOwnWaits(t *testing.T) {
	const limit = 20 * time.Minute
	steps := []journal.StepState{{Step: journal.Step{Phase: "set"}}, {Step: journal.Step{Phase: "later"}}}
	p := &Participant{Node: NewNode(engine.Parts{Host: &node.Host{}}, observe.Node{}), Run: &engine.Run{
		State: &journal.State{Steps: steps},
		Ops:   []op.Op{&op.AwaitReplaced{Back: true, Limit: limit}, &op.AwaitReplaced{Limit: time.Minute}}}}
	for question, want := range map[string]time.Duration{
		AskBack: patience + limit, AskAdvance: patience + limit, AskCommit: patience,
	} {
		if got := p.patience(message{Ask: question, With: []byte(`{"Phase":"set"}`)}); got != want {
			t.Errorf("%s is given %v, and not %v", question, got, want)
		}
	}
}
