package restore

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// loadedTogether are several nodes with a run of theirs that is open.
func loadedTogether(t *testing.T, names []string, before, now []*sim.Machine) *cluster {
	c := &cluster{names: names, worlds: map[string]*restoreWorld{}, plans: map[string]account{}}
	for i, name := range names {
		c.worlds[name] = onNode(crashtest.Over(t, name, now[i], before[i]), scenario{name: name})
	}
	c.wire()
	return c
}

// onThreeNodes is the name of the workflow that is on several nodes.
const onThreeNodes = "restore on three nodes"

// settleStoredTogether types the commands on one node after another, where the run has begun.
func settleStoredTogether(t *testing.T, r crashtest.StoredRuns, count map[string]int) {
	e := newExplorer()
	before := r.All(t, r.Before)
	for n, run := range r.Runs {
		for _, back := range []bool{false, true} {
			c := loadedTogether(t, r.Nodes, before, r.All(t, run.Nodes))
			var begun []string
			for _, name := range r.Nodes {
				if a := c.read(name); a.begun() && !a.end {
					begun = append(begun, name)
				}
			}
			if len(begun) == 0 {
				t.Fatalf("run %d, stopped at %q, is open on no node", n, run.Stopped)
			}
			story := fmt.Sprintf("run %d, stopped at %q", n, run.Stopped)
			e.settles(state{cluster: c, story: story}, order{back: back, at: begun[n%len(begun)]})
		}
	}
	if e.err != nil {
		t.Error(e.err)
	}
	for outcome, times := range e.ends {
		count[outcome] += times
	}
}

// threeNodes carries out a restore of three nodes, and takes it back when one of them holds the
// commit record. Of the instants at which something is recorded those are taken that differ in how
// far the phases got, or at which a node's operation is in doubt that was not before.
func threeNodes(t *testing.T, names []string) []crashtest.StopPoint {
	c := newCluster(t, names...)
	machines := func(c *cluster) (all []*sim.Machine) {
		for _, name := range names {
			all = append(all, c.worlds[name].Machine)
		}
		return all
	}
	stops := []crashtest.StopPoint{{Machines: crashtest.Saved(t, machines(c)...)}}
	var last *cluster
	known := map[string]bool{}
	watch := func(c *cluster, do func() error) {
		c.seen = func(now *cluster) {
			fresh := []string{fmt.Sprint(now.far())}
			commits, open := 0, false
			for _, name := range names {
				a := now.read(name)
				open = open || a.begun() && !a.end
				if a.commit {
					commits++
				}
				for i, progress := range a.steps {
					if strings.ContainsRune("su", progress) {
						fresh = append(fresh, fmt.Sprint(name, i, string(progress)))
					}
				}
			}
			if commits == 1 && last == nil {
				last = now.fork()
			}
			if !open || !slices.ContainsFunc(fresh, func(s string) bool { return !known[s] }) {
				return
			}
			for _, s := range fresh {
				known[s] = true
			}
			call := fmt.Sprintf("%s: instant %d", now.command, now.instants)
			stops = append(stops, crashtest.StopPoint{Call: call, Machines: crashtest.Saved(t, machines(now)...)})
		}
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	watch(c, func() error { return c.restore(names[0]) })
	watch(last, func() error { return last.obey(order{back: true, at: names[0]}) })
	return stops
}

func TestARunOnThreeNodesThatAnEarlierVersionLeftOpenIsSettled(t *testing.T) {
	crashtest.EachStored(t, onThreeNodes, settleStoredTogether)
}

func TestStoreOpenRunsOfThreeNodes(t *testing.T) {
	names := []string{"cp1", "cp2", "cp3"}
	crashtest.StoreOpenRuns(t, func(folder string) {
		crashtest.Store(t, folder, crashtest.StoredRuns{Workflow: onThreeNodes,
			Scenario: "one file system", Nodes: names}, threeNodes(t, names))
	})
}
