package restore

import (
	"context"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

const snapshotFile = "/backup/snapshot.db"

// onNodes is a restore on these nodes. The last one lacks the snapshot, and is sent it.
func onNodes(names ...string) crashtest.Together {
	return crashtest.Together{
		Name: "restore", Nodes: names, Promises: true,
		Machine: func(t *testing.T, node string) *sim.Machine {
			shape := crashtest.Shape{}
			if node == names[len(names)-1] {
				shape.Prepare = func(d *sim.Disk) {
					if err := d.Remove(snapshotFile); err != nil {
						t.Fatal(err)
					}
				}
			}
			return shape.Machine(t)
		},
		Joint: func(w *crashtest.Node) together.Joint { return world(w).looker().joint() },
		Run: func(w *crashtest.Node, nodes []journal.Peer) error {
			o := TogetherOptions{Nodes: nodes, Restore: Options{StopTimeout: time.Minute}}
			return together.Plans(world(w).looker().plan, o).CarryOut(w.Context(), w.Process,
				func(engine.TogetherPlan) error { return nil })
		},
		Outcome: func(w *crashtest.Node) (string, error) { return world(w).verdict() },
		Wire: func(c *crashtest.Cluster, node string) {
			c.Nodes[node].Machine.CommittedBy(func() bool { return c.Holds(node, journal.Settle) })
		},
		Check: checkServers,
		Lacks: lacksSnapshot,
	}
}

// world is one node of several.
func world(w *crashtest.Node) *restoreWorld { return &restoreWorld{Node: w} }

func newCluster(t *testing.T, names ...string) *crashtest.Cluster {
	t.Helper()
	return onNodes(names...).Fresh(t)
}

// looker observes simulated nodes.
func (w *restoreWorld) looker() looker {
	return looker{
		survey: func(ctx context.Context, n *observe.Node, q surveyQuestion) (*Facts, error) {
			return w.facts(ctx, n, q.Run)
		},
		source: func(ctx context.Context, n *observe.Node, _ restorer, run string) (*SnapshotFacts, error) {
			f, err := w.facts(ctx, n, run)
			if err != nil {
				return nil, err
			}
			return f.Snapshot, nil
		},
	}
}

// checkServers checks that no API server serves the new data before all nodes hold the commit
// record, and that none serves the old data while it could reach an etcd with the new.
func checkServers(c *crashtest.Cluster) {
	alive := c.Alive()
	var oldAt, newAt string
	for _, name := range alive {
		switch c.Nodes[name].Machine.Serves() {
		case "old":
			oldAt = name
		case "new":
			newAt = name
		}
	}
	for _, name := range alive {
		if !c.Apart && len(c.Gone) == 0 && oldAt != "" && c.Nodes[name].Machine.EtcdServes() == "new" {
			c.Violate("an API server runs on %s, which goes back, and could reach the "+
				"etcd on %s, which still has the new data",
				oldAt, name)
		}
	}
	if newAt == "" {
		return
	}
	if oldAt != "" {
		c.Violate("an API server serves the old data on %s, and one the new on %s", oldAt, newAt)
	}
	for _, name := range alive {
		if !c.Holds(name, journal.Commit) {
			c.Violate("an API server serves the new data on %s, and %s does not hold the commit record", newAt, name)
		}
	}
}

// lacksSnapshot says whether a node has neither staged nor has the snapshot to stage from.
func lacksSnapshot(c *crashtest.Cluster, node string) bool {
	m, dir := c.Nodes[node].Machine, journal.RunDir(c.Read(node).ID)
	return m.Peek(snapshotFile) == nil && m.Peek(dir+"/snapshot.db") == nil && m.Peek(dir+"/staged.json") == nil
}

func TestARestoreOfThreeNodesEndsNewOnAll(t *testing.T) {
	c := newCluster(t, "cp1", "cp2", "cp3")
	if err := c.Run("cp1"); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Verdict(); v != "new" || err != nil {
		t.Fatalf("%s %v", v, err)
	}
	for _, name := range c.Names {
		if a := c.Read(name); !a.Done() || !a.Commit || !a.Settle || !a.End {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestEveryStateThatTwoFaultsLeaveIsSettled(t *testing.T) {
	crashtest.SettledAfterTwoFaults(t, onNodes("cp1", "cp2", "cp3"))
}

func TestARestoreOfThreeNodesInterruptedAnywhereGoesBackOnAll(t *testing.T) {
	crashtest.InterruptedTogether(t, onNodes("cp1", "cp2", "cp3"))
}

func TestWhateverSomebodyElseDoesAtAnyStepOfARestoreOfThreeNodesNothingPromisedIsLost(t *testing.T) {
	crashtest.MeddledTogether(t, onNodes("cp1", "cp2", "cp3"))
}

func TestTheExplorationCatchesMistakesInTheProtocol(t *testing.T) {
	crashtest.CatchesMistakes(t, onNodes("cp1", "cp2", "cp3"))
}
