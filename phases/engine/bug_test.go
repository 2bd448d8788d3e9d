package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// brittle is a file system that panics when a file is made.
type brittle struct {
	node.FS
	broken *bool
}

func (b brittle) Create(path string, data []byte, attr node.Attr) error {
	if *b.broken && strings.HasSuffix(path, "/two") {
		var none []byte
		none[0] = 1
	}
	return b.FS.Create(path, data, attr)
}

func (b brittle) Mkdir(path string, attr node.Attr) error {
	if *b.broken && strings.HasSuffix(path, "/two") {
		panic("one line\nand another")
	}
	return b.FS.Mkdir(path, attr)
}

// A panic ends a run as any other failure does: everything goes back, and one sentence says why.
func TestAPanicTakesARunBack(t *testing.T) {
	machine := crashtest.Shape{}.Machine(t)
	n := crashtest.Alone(t, machine)
	broken := true
	n.Process.Host.FS = brittle{n.Process.Host.FS, &broken}
	dirs := engine.Workflow[*observe.Node, *observe.Facts]{
		Name: "dirs",
		Observe: func(_ context.Context, _ *observe.Node, run string) (*observe.Facts, error) {
			return n.Observe(run)
		},
		Phases: []engine.Phase[*observe.Facts]{{Name: "make", Short: "make two", Commit: true,
			Plan: func(context.Context, *observe.Facts) ([]op.Op, error) {
				return []op.Op{&op.MakeDirectory{Path: "/backup/one", Attr: node.Mine(0o700)},
					&op.MakeDirectory{Path: "/backup/two", Attr: node.Mine(0o700)}}, nil
			}}},
	}
	err := n.Do(dirs.On(n.Process.Look))
	var back *engine.RolledBackError
	var bug *engine.BugError
	if !errors.As(err, &back) || !errors.As(err, &bug) || strings.Contains(err.Error(), "\n") ||
		!strings.Contains(err.Error(), "engine/bug_test.go") {
		t.Errorf("%v", err)
	}
	if _, err := machine.Disk.Lstat("/backup/one"); err == nil {
		t.Error("the first directory is still there")
	}
	broken = false
	if err := n.Do(dirs.On(n.Process.Look)); err != nil {
		t.Errorf("once more: %v", err)
	}
}

func TestAPanicInAGoroutineIsOneOfWhoWaitsForIt(t *testing.T) {
	done := make([]bool, 3)
	defer func() {
		if p := recover(); p != "two" || !done[0] || !done[2] {
			t.Errorf("it panicked with %v; done are %v", p, done)
		}
	}()
	engine.Concurrently(3, func(i int) {
		if i == 1 {
			panic("two")
		}
		done[i] = true
	})
}
