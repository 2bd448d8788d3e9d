package restore

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// onThreeNodes is the name of the workflow on several nodes.
const onThreeNodes = "restore on three nodes"

// settleStoredTogether types the commands on one node after another, wherever the run has begun.
func settleStoredTogether(t *testing.T, r crashtest.StoredRuns, count map[string]int) {
	e := crashtest.NewExplorer()
	before := r.All(t, r.Before)
	for n, run := range r.Runs {
		for _, back := range []bool{false, true} {
			c := onNodes(r.Nodes...).Loaded(t, before, r.All(t, run.Nodes))
			var begun []string
			for _, name := range r.Nodes {
				if a := c.Read(name); a.Begun() && !a.End {
					begun = append(begun, name)
				}
			}
			if len(begun) == 0 {
				t.Fatalf("run %d, stopped at %q, is open on no node", n, run.Stopped)
			}
			story := fmt.Sprintf("run %d, stopped at %q", n, run.Stopped)
			e.Settles(crashtest.State{Cluster: c, Story: story}, crashtest.Order{Back: back, At: begun[n%len(begun)]})
		}
	}
	if e.Err != nil {
		t.Error(e.Err)
	}
	for outcome, times := range e.Ends {
		count[outcome] += times
	}
}

// threeNodes restores three nodes, and takes it back when one of them holds the commit record. Of
// the instants at which something is recorded, it returns those that differ in how far the phases
// got, or at which a node's operation is newly in doubt.
func threeNodes(t *testing.T, names []string) []crashtest.StopPoint {
	c := newCluster(t, names...)
	machines := func(c *crashtest.Cluster) (all []*sim.Machine) {
		for _, name := range names {
			all = append(all, c.Nodes[name].Machine)
		}
		return all
	}
	stops := []crashtest.StopPoint{{Machines: crashtest.Saved(t, machines(c)...)}}
	var last *crashtest.Cluster
	known := map[string]bool{}
	watch := func(c *crashtest.Cluster, do func() error) {
		c.Seen = func(now *crashtest.Cluster) {
			fresh := []string{fmt.Sprint(now.Far())}
			commits, open := 0, false
			for _, name := range names {
				a := now.Read(name)
				open = open || a.Begun() && !a.End
				if a.Commit {
					commits++
				}
				for i, progress := range a.Steps {
					if strings.ContainsRune("su", progress) {
						fresh = append(fresh, fmt.Sprint(name, i, string(progress)))
					}
				}
			}
			if commits == 1 && last == nil {
				last = now.Fork()
			}
			if !open || !slices.ContainsFunc(fresh, func(s string) bool { return !known[s] }) {
				return
			}
			for _, s := range fresh {
				known[s] = true
			}
			call := fmt.Sprintf("%s: instant %d", now.Command, now.Instants)
			stops = append(stops, crashtest.StopPoint{Call: call, Machines: crashtest.Saved(t, machines(now)...)})
		}
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	watch(c, func() error { return c.Run(names[0]) })
	watch(last, func() error { return last.Obey(crashtest.Order{Back: true, At: names[0]}) })
	return stops
}

func TestARunOnThreeNodesThatAnEarlierVersionLeftOpenIsSettled(t *testing.T) {
	if version := crashtest.Storing(); version != "" {
		names := []string{"cp1", "cp2", "cp3"}
		crashtest.Store(t, version, crashtest.StoredRuns{Workflow: onThreeNodes,
			Scenario: "one file system", Nodes: names}, threeNodes(t, names))
		return
	}
	crashtest.EachStored(t, onThreeNodes, settleStoredTogether)
}
