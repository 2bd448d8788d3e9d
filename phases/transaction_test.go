package phases

import (
	"errors"
	"slices"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// cutOffTogether are the states in which a restore of three nodes can lose its coordinator, as far as phases tell them apart.
func cutOffTogether(t *testing.T) []state {
	t.Helper()
	e := newExplorer()
	e.afar = true
	c := newCluster(t, "cp1", "cp2", "cp3")
	states, err := e.watch(c, "restore", true, func() error { return c.restore("cp1") })
	if err = errors.Join(err, e.err); err != nil || len(states) < 20 {
		t.Fatalf("%d states: %v", len(states), err)
	}
	return states
}

// A node that reaches no other does what its own records allow. Otherwise it stays as it is, and says whom to ask.
func TestANodeAloneDecidesByItsOwnRecordsOnly(t *testing.T) {
	decided, stayed := 0, 0
	for _, s := range cutOffTogether(t) {
		for _, o := range orders(s.names) {
			if len(o.cut) != 2 {
				continue
			}
			c := s.fork()
			a, before := c.read(o.at), c.key()
			err := c.obey(o)
			after := c.read(o.at)
			switch {
			case !a.begun() || a.end:
				continue
			case a.settle && !o.back:
				decided++
				if !after.done() {
					t.Errorf("%s; %s: it is settled, and did not go on: %v", s.story, o, err)
				}
			case !a.commit && o.back:
				decided++
				if !after.reverted() || !isOpen(err) {
					t.Errorf("%s; %s: it does not hold the commit record, and did not go back: %v", s.story, o, err)
				}
			case a.settle:
				var refused *RefusedError
				if !errors.As(err, &refused) {
					t.Errorf("%s; %s: it is settled: %v", s.story, o, err)
				}
			default:
				stayed++
				if !isOpen(err) || Hint(err) == "" || c.key() != before {
					t.Errorf("%s; %s: nobody may decide: %v", s.story, o, err)
				}
			}
			if err := c.judge(); err != nil {
				t.Errorf("%s; %s: %v", s.story, o, err)
			}
		}
	}
	if decided < 20 || stayed < 20 {
		t.Errorf("%d decided, %d stayed", decided, stayed)
	}
}

// Whichever node is destroyed, the coordinator among them: any of the others settles what is left.
func TestTheOthersSettleWithoutADestroyedNode(t *testing.T) {
	e := newExplorer()
	for i, s := range cutOffTogether(t) {
		for j, lost := range s.names {
			others := slices.DeleteFunc(slices.Clone(s.names), func(n string) bool { return n == lost })
			for k, back := range []bool{false, true} {
				c := s.fork()
				c.gone = []string{lost}
				c.worlds[lost].machine.Off()
				e.settles(state{c, s.story}, order{back: back, at: others[(i+j+k)%2], lost: []string{lost}})
			}
		}
	}
	if e.err != nil {
		t.Error(e.err)
	}
	if e.ends["new"] < 20 || e.ends["old"] < 20 {
		t.Errorf("they ended %v", e.ends)
	}
}

// A node whose run was closed may have pruned it before the last one is closed.
func TestANodeThatHasPrunedItsRunDoesNotKeepTheOthersOpen(t *testing.T) {
	pruned := 0
	for _, s := range cutOffTogether(t) {
		for _, name := range s.names {
			if a := s.read(name); !a.end || a.abort || s.settled() {
				continue
			}
			c := s.fork()
			m := c.worlds[name].machine
			if err := errors.Join(m.Remove(journal.RunDir(c.read(name).id) + "/journal")); err != nil {
				t.Fatal(err)
			}
			pruned++
			for _, at := range s.names {
				c := c.fork()
				a := c.read(at)
				if !a.begun() || a.end {
					continue
				}
				if err := c.obey(order{at: at}); err != nil || !c.settled() {
					t.Errorf("%s; %s pruned; resume on %s: %v", s.story, name, at, err)
				}
			}
		}
	}
	if pruned == 0 {
		t.Error("none was closed before the others")
	}
}
