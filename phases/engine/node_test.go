package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// stuck is a file system whose lock cannot be released.
type stuck struct{ node.FS }

var errStuck = errors.New("the lock is stuck")

func (s stuck) Lock(path string) (func() error, error) {
	unlock, err := s.FS.Lock(path)
	if err != nil {
		return nil, err
	}
	return func() error { return errors.Join(unlock(), errStuck) }, nil
}

// If the lock stayed without a word, the next command would be refused and nobody would know why.
func TestALockThatCannotBeGivenUpIsTold(t *testing.T) {
	machine := crashtest.Shape{}.Machine(t)
	n := crashtest.Alone(t, machine)
	n.Process.Host.FS = stuck{n.Process.Host.FS}
	nothing := engine.Workflow[*observe.Node, *observe.Facts]{
		Name: "nothing",
		Observe: func(_ context.Context, _ *observe.Node, run string) (*observe.Facts, error) {
			return n.Observe(run)
		},
	}
	if err := n.Do(nothing.On(n.Process.Look)); !errors.Is(err, errStuck) {
		t.Errorf("a workflow ended with %v", err)
	}
	if err := n.Settle("resume"); !errors.Is(err, errStuck) {
		t.Errorf("resume ended with %v", err)
	}
}
