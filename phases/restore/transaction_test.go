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
// as the phases distinguish them.
func cutOffTogether(t *testing.T) []crashtest.State {
	t.Helper()
	e := crashtest.NewExplorer()
	e.Afar = true
	c := newCluster(t, "cp1", "cp2", "cp3")
	states, err := e.Watch(c, "restore", true, func() error { return c.Run("cp1") })
	if err = errors.Join(err, e.Err); err != nil || len(states) < 20 {
		t.Fatalf("%d states: %v", len(states), err)
	}
	return states
}

// durable is the state with all journals safe from a power loss: opening a journal syncs it, and
// changes nothing else.
func durable(t *testing.T, s crashtest.State) *crashtest.Cluster {
	t.Helper()
	c := s.Fork()
	for _, name := range c.Names {
		m := c.Nodes[name].Machine
		ids, _ := m.ReadDir(journal.RunsDir)
		for _, id := range ids {
			for _, name := range []string{journal.RunDir(id) + "/journal", journal.RunDir(id)} {
				if err := m.Sync(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
		}
	}
	return c
}

// A node that reaches no other does what its own records allow. Otherwise it changes nothing, and
// says whom to ask.
func TestANodeAloneDecidesByItsOwnRecordsOnly(t *testing.T) {
	decided, stayed := 0, 0
	for _, s := range cutOffTogether(t) {
		for _, o := range crashtest.Orders(s.Names) {
			if len(o.Cut) != 2 {
				continue
			}
			c := durable(t, s)
			a, before := c.Read(o.At), c.Key()
			err := c.Obey(o)
			after := c.Read(o.At)
			switch {
			case !a.Begun() || a.End:
				continue
			case a.Settle && !o.Back:
				decided++
				if !after.Done() {
					t.Errorf("%s; %s: it is settled, and did not go on: %v", s.Story, o, err)
				}
			case !a.Commit && o.Back:
				decided++
				if !after.Reverted() || !crashtest.IsOpen(err) {
					t.Errorf("%s; %s: it does not hold the commit record, and did not go back: %v", s.Story, o, err)
				}
			case a.Settle:
				var refused *engine.RefusedError
				if !errors.As(err, &refused) {
					t.Errorf("%s; %s: it is settled: %v", s.Story, o, err)
				}
			default:
				stayed++
				if !crashtest.IsOpen(err) || engine.Hint(err) == "" || c.Key() != before {
					t.Errorf("%s; %s: nobody may decide: %v", s.Story, o, err)
				}
			}
			if err := c.Judge(); err != nil {
				t.Errorf("%s; %s: %v", s.Story, o, err)
			}
		}
	}
	if decided < 20 || stayed < 20 {
		t.Errorf("%d decided, %d stayed", decided, stayed)
	}
}

// Whichever node is destroyed, even the coordinator, any other one settles what is left.
func TestTheOthersSettleWithoutADestroyedNode(t *testing.T) {
	e := crashtest.NewExplorer()
	for i, s := range cutOffTogether(t) {
		for j, lost := range s.Names {
			others := slices.DeleteFunc(slices.Clone(s.Names), func(n string) bool { return n == lost })
			for k, back := range []bool{false, true} {
				c := s.Fork()
				c.Gone = []string{lost}
				c.Nodes[lost].Machine.Off()
				e.Settles(crashtest.State{Cluster: c, Story: s.Story},
					crashtest.Order{Back: back, At: others[(i+j+k)%2], Lost: []string{lost}})
			}
		}
	}
	if e.Err != nil {
		t.Error(e.Err)
	}
	if e.Ends["new"] < 20 || e.Ends["old"] < 20 {
		t.Errorf("they ended %v", e.Ends)
	}
}

// If all remaining nodes hold the commit record, the destroyed one may have been settled, and may
// have promised writes to clients: those must not be given up.
func TestWhatADestroyedNodeMayHavePromisedIsNotTakenBack(t *testing.T) {
	refusals := 0
	for _, s := range cutOffTogether(t) {
		for i, lost := range s.Names {
			others := slices.DeleteFunc(slices.Clone(s.Names), func(n string) bool { return n == lost })
			if a, b := s.Read(others[0]), s.Read(others[1]); !a.Commit ||
				!b.Commit || a.Settle || b.Settle || a.Abort || b.Abort {
				continue
			}
			c := durable(t, s)
			c.Gone = []string{lost}
			c.Nodes[lost].Machine.Off()
			before := c.Key()
			err := c.Obey(crashtest.Order{Back: true, At: others[i%2], Lost: []string{lost}})
			var refused *engine.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(refused.Hint, "resume --lost "+lost) ||
				c.Key() != before {
				t.Fatalf("%s; %s is lost: %v", s.Story, lost, err)
			}
			if err := c.Obey(crashtest.Order{At: others[i%2], Lost: []string{lost}}); err != nil {
				t.Errorf("%s; resume without %s: %v", s.Story, lost, err)
			}
			if v, err := c.Verdict(); v != "new" || err != nil || !c.Settled() {
				t.Errorf("%s; resume without %s ended %s: %v", s.Story, lost, v, err)
			}
			refusals++
		}
	}
	if refusals == 0 {
		t.Error("there was no such state")
	}
}

// What --dry-run of resume and rollback shows of each node is what they do there, and it changes
// nothing.
func TestADryRunShowsWhatIsLeftOnEachNode(t *testing.T) {
	shown := 0
	for i, s := range cutOffTogether(t) {
		for _, back := range []bool{false, true} {
			at := s.Names[i%len(s.Names)]
			if a := s.Read(at); !a.Begun() || a.End {
				continue
			}
			c, before := s.Fork(), s.Key()
			plan, refused := c.Begin(at).PreviewOpen(t.Context(), back)
			c.Rest()
			if c.Key() != before {
				t.Fatalf("%s; the dry run on %s changed something", s.Story, at)
			}
			done := map[string][]string{}
			c.Heard = func(e engine.Event) {
				switch e.State {
				case engine.Finished:
					done[e.Node] = append(done[e.Node], e.Operation)
				case engine.Undone:
					done[e.Node] = append(done[e.Node], "undo: "+e.Operation)
				}
			}
			err := c.Obey(crashtest.Order{Back: back, At: at})
			if refused != nil {
				if err == nil || err.Error() != refused.Error() {
					t.Errorf("%s; the dry run on %s says %v, and then %v", s.Story, at, refused, err)
				}
				continue
			}
			for _, n := range plan.Nodes {
				want, got := strings.Split(operations(n.Plan), "\n"), done[n.Node]
				slices.Sort(want)
				slices.Sort(got)
				if operations(n.Plan)+strings.Join(got, "\n") != "" && !slices.Equal(got, want) {
					t.Errorf("%s; back %v on %s: on %s it showed\n%s\nand it did\n%s\n%v",
						s.Story, back, at, n.Node, strings.Join(want, "\n"), strings.Join(got, "\n"), err)
				}
			}
			shown++
		}
	}
	if shown < 20 {
		t.Errorf("only %d were shown", shown)
	}
}

// A node whose run is closed may prune it before the other nodes close theirs.
func TestANodeThatHasPrunedItsRunDoesNotKeepTheOthersOpen(t *testing.T) {
	pruned := 0
	for _, s := range cutOffTogether(t) {
		for _, name := range s.Names {
			if a := s.Read(name); !a.End || a.Abort || s.Settled() {
				continue
			}
			c := s.Fork()
			m := c.Nodes[name].Machine
			if err := errors.Join(m.Remove(journal.RunDir(c.Read(name).ID) + "/journal")); err != nil {
				t.Fatal(err)
			}
			pruned++
			for _, at := range s.Names {
				c := c.Fork()
				a := c.Read(at)
				if !a.Begun() || a.End {
					continue
				}
				if err := c.Obey(crashtest.Order{At: at}); err != nil || !c.Settled() {
					t.Errorf("%s; %s pruned; resume on %s: %v", s.Story, name, at, err)
				}
			}
		}
	}
	if pruned == 0 {
		t.Error("none was closed before the others")
	}
}
