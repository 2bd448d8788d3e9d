package crashtest

import (
	"os"
	"runtime/debug"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/together"
)

// Together is one workflow on several nodes: all that the exploration needs to know of it.
type Together struct {
	Name  string
	Nodes []string // the command is typed on the first
	// Machine makes a node on which nothing has happened yet.
	Machine func(t *testing.T, node string) *sim.Machine
	Joint   func(*Node) together.Joint // what the transaction needs to know, of that node
	// Run carries the workflow out, as the command does, without asking.
	Run     func(coordinator *Node, nodes []journal.Peer) error
	Outcome func(*Node) (string, error) // "old" or "new", or what is wrong

	// What follows is nil where a workflow has nothing to say.

	// Wire is called when a node has become one of a cluster.
	Wire func(c *Cluster, node string)
	// Check holds the nodes together to what must be true after every step; it
	// calls [Cluster.Violate].
	Check func(*Cluster)
	// Lacks says whether a node lacks what only it could give: when a run that is not committed is
	// resumed there it goes back.
	Lacks func(c *Cluster, node string) bool
}

// SettledAfterTwoFaults explores a workflow, with up to two faults, and the commands that settle
// what they leave: each state is settled by one of the commands that reach all nodes that are
// left, and the next one by another; with ETCDPOD_EXPLORE=all, each by every one of them. With
// -short the second fault strikes other nodes than the coordinator's at a fixed part of the
// instants, one in 32.
func SettledAfterTwoFaults(t *testing.T, w Together) {
	e := NewExplorer()
	e.every = os.Getenv("ETCDPOD_EXPLORE") == "all"
	if testing.Short() {
		e.oneIn = 32
	}
	// What is held is small against what comes and goes.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	t.Log(e.explore(w.Fresh(t).Fork, killed, rebooted, cutOnce, cutForLong))
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	if e.Ends["new"] == 0 || e.Ends["old"] == 0 {
		t.Error("the exploration proves nothing: all ended alike")
	}
}

// CatchesMistakes plants mistakes in the protocol, one after the other, and wants each to be found:
// an exploration that cannot fail proves nothing. Where the workflow undoes nothing last, that it
// is undone with the rest is no mistake.
func CatchesMistakes(t *testing.T, w Together) {
	for name, mistake := range protocolMistakes() {
		first := w.Fresh(t)
		mistake(first)
		if first.Mistakes.OneRound && len(first.joint(w.Nodes[0]).Last) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			e := NewExplorer()
			e.explore(first.Fork) // the coordinator lost at any record is enough to find each
			if e.Err == nil {
				t.Fatal("the exploration did not notice")
			}
			t.Logf("caught after %d transitions: %v", e.transitions, e.Err)
		})
	}
}

// protocolMistakes are what is planted, and what it is in words.
func protocolMistakes() map[string]func(*Cluster) {
	return map[string]func(*Cluster){
		"the commit record is written before what comes before it is done": func(c *Cluster) {
			c.Mistakes.CommitEarly = true
		},
		"a node is settled before all hold the commit record": func(c *Cluster) {
			c.Mistakes.SettleEarly = true
		},
		"a node that holds the commit record goes back without knowing of another": func(c *Cluster) {
			c.Mistakes.BackUnwitnessed = true
		},
		"what is behind the commit point is done before all hold the commit record": func(c *Cluster) {
			c.Mistakes.ReleaseEarly = true
		},
		"a node goes back before that is recorded": func(c *Cluster) { c.abortsLate = true },
		"a run is closed before everything is done": func(c *Cluster) {
			c.Mistakes.CloseEarly = true
		},
		"what is undone last is undone on one node before all else is undone on all": func(c *Cluster) {
			c.Mistakes.OneRound = true
		},
	}
}
