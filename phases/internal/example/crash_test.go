package example

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// world is a simulated node on which somebody asks for a shelf.
type world struct {
	*crashtest.Node
	Options
}

func cases() []crashtest.Case {
	return []crashtest.Case{{Name: "a shelf", Machine: crashtest.Shape{}.Machine,
		On: func(n *crashtest.Node, _ *sim.Machine) crashtest.Subject {
			w := world{n, Options{Dir: "/backup/shelf"}}
			return crashtest.Subject{Run: w.run, Outcome: w.outcome}
		}}}
}

// run observes the simulated etcd: all else is as a person would have it.
func (w world) run() error {
	shelf := Shelf(w.Options)
	shelf.Observe = func(_ context.Context, n *observe.Node, run string) (*Facts, error) {
		seen, err := w.Observe(run)
		if err != nil {
			return nil, err
		}
		return w.look(n.FS, seen)
	}
	return w.Do(shelf.On(w.Process.Look))
}

// outcome is "old" without the directory and "new" with it; anything else is wrong.
func (w world) outcome() (string, error) {
	if err := w.Violated(); err != nil {
		return "", err
	}
	if w.Machine.Look(journal.Home, w.Dir) != w.First {
		return "", errors.New("something else has changed")
	}
	_, err := w.Machine.Disk.Lstat(w.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "old", nil
	}
	return "new", err
}

func TestAShelfIsThereOrIsNotWhateverHappens(t *testing.T) {
	crashtest.Everything(t, cases())
}

func TestAShelfThatCannotBeMadeIsRefused(t *testing.T) {
	for dir, want := range map[string]string{"/backup": "it is there already", "/backup/shelf": ""} {
		o, machine := Options{Dir: dir}, crashtest.Shape{}.Machine(t)
		f, err := o.look(machine.Disk, crashtest.SeenFacts(t, "run"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Shelf(o).Planned(context.Background(), f)
		var refused *engine.RefusedError
		if errors.As(err, &refused) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, and not %q", dir, err, want)
		}
	}
}
