package restore

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// cutOffTogether are the states in which a restore of three nodes can lose its coordinator, as far
// as phases tell them apart.
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

// durable is the state with all journals safe from a power loss: to open a journal makes it
// so, and is no change.
func durable(t *testing.T, s state) *cluster {
	t.Helper()
	c := s.fork()
	for _, name := range c.names {
		m := c.worlds[name].Machine
		ids, _ := m.ReadDir(journal.RunsDir)
		for _, id := range ids {
			if err := m.Sync(journal.RunDir(id) + "/journal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	return c
}

// A node that reaches no other does what its own records allow. Otherwise it stays as it is,
// and says whom to ask.
func TestANodeAloneDecidesByItsOwnRecordsOnly(t *testing.T) {
	decided, stayed := 0, 0
	for _, s := range cutOffTogether(t) {
		for _, o := range orders(s.names) {
			if len(o.cut) != 2 {
				continue
			}
			c := durable(t, s)
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
				if !after.reverted() || !crashtest.IsOpen(err) {
					t.Errorf("%s; %s: it does not hold the commit record, and did not go back: %v", s.story, o, err)
				}
			case a.settle:
				var refused *engine.RefusedError
				if !errors.As(err, &refused) {
					t.Errorf("%s; %s: it is settled: %v", s.story, o, err)
				}
			default:
				stayed++
				if !crashtest.IsOpen(err) || engine.Hint(err) == "" || c.key() != before {
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
				c.worlds[lost].Machine.Off()
				e.settles(state{cluster: c, story: s.story},
					order{back: back, at: others[(i+j+k)%2], lost: []string{lost}})
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

// Where all that are left hold the commit record, one that is destroyed may have been settled, and
// have promised writes to clients: those are not given up.
func TestWhatADestroyedNodeMayHavePromisedIsNotTakenBack(t *testing.T) {
	refusals := 0
	for _, s := range cutOffTogether(t) {
		for i, lost := range s.names {
			others := slices.DeleteFunc(slices.Clone(s.names), func(n string) bool { return n == lost })
			if a, b := s.read(others[0]), s.read(others[1]); !a.commit ||
				!b.commit || a.settle || b.settle || a.abort || b.abort {
				continue
			}
			c := durable(t, s)
			c.gone = []string{lost}
			c.worlds[lost].Machine.Off()
			before := c.key()
			err := c.obey(order{back: true, at: others[i%2], lost: []string{lost}})
			var refused *engine.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(refused.Hint, "resume --lost "+lost) ||
				c.key() != before {
				t.Fatalf("%s; %s is lost: %v", s.story, lost, err)
			}
			if err := c.obey(order{at: others[i%2], lost: []string{lost}}); err != nil {
				t.Errorf("%s; resume without %s: %v", s.story, lost, err)
			}
			if v, err := c.verdict(); v != "new" || err != nil || !c.settled() {
				t.Errorf("%s; resume without %s ended %s: %v", s.story, lost, v, err)
			}
			refusals++
		}
	}
	if refusals == 0 {
		t.Error("there was no such state")
	}
}

// What --dry-run of resume and rollback shows of each node is what they do there,
// and it touches nothing.
func TestADryRunShowsWhatIsLeftOnEachNode(t *testing.T) {
	shown := 0
	for i, s := range cutOffTogether(t) {
		for _, back := range []bool{false, true} {
			at := s.names[i%len(s.names)]
			if a := s.read(at); !a.begun() || a.end {
				continue
			}
			c, before := s.fork(), s.key()
			plan, refused := c.begin(at).PreviewOpen(t.Context(), back)
			c.rest()
			if c.key() != before {
				t.Fatalf("%s; the dry run on %s changed something", s.story, at)
			}
			done := map[string][]string{}
			c.heard = func(e engine.Event) {
				switch e.State {
				case engine.Finished:
					done[e.Node] = append(done[e.Node], e.Operation)
				case engine.Undone:
					done[e.Node] = append(done[e.Node], "undo: "+e.Operation)
				}
			}
			err := c.obey(order{back: back, at: at})
			if refused != nil {
				if err == nil || err.Error() != refused.Error() {
					t.Errorf("%s; the dry run on %s says %v, and then %v", s.story, at, refused, err)
				}
				continue
			}
			for _, n := range plan.Nodes {
				want, got := strings.Split(operations(n.Plan), "\n"), done[n.Node]
				slices.Sort(want)
				slices.Sort(got)
				if operations(n.Plan)+strings.Join(got, "\n") != "" && !slices.Equal(got, want) {
					t.Errorf("%s; back %v on %s: on %s it showed\n%s\nand it did\n%s\n%v",
						s.story, back, at, n.Node, strings.Join(want, "\n"), strings.Join(got, "\n"), err)
				}
			}
			shown++
		}
	}
	if shown < 20 {
		t.Errorf("only %d were shown", shown)
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
			m := c.worlds[name].Machine
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
