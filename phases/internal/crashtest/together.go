package crashtest

import (
	"os"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/together"
)

// Together is one workflow on several nodes: all that the exploration needs to know.
type Together struct {
	Name  string
	Nodes []string // the command is typed on the first
	// Machine makes a node on which nothing has happened yet.
	Machine func(t *testing.T, node string) *sim.Machine
	Joint   func(*Node) together.Joint // what the transaction needs to know, for that node
	// Run carries out the workflow as the command does, without asking.
	Run     func(coordinator *Node, nodes []journal.Peer) error
	Outcome func(*Node) (string, error) // "old" or "new", or what is wrong

	// Promises says that clients may write to what the run puts in place, so that going back has to
	// be refused somewhere.
	Promises bool

	// The following are nil where a workflow has no need of them.

	// Wire is called when a node has become part of a cluster.
	Wire func(c *Cluster, node string)
	// Check checks what must be true of all nodes together after every step; it calls
	// [Cluster.Violate].
	Check func(*Cluster)
	// Lacks says whether a node lacks what only that node could provide: an uncommitted run that is
	// resumed there rolls back.
	Lacks func(c *Cluster, node string) bool
	// Futile says that an uncommitted run rolls back wherever it is resumed.
	Futile func(c *Cluster) bool
}

// SettledAfterTwoFaults explores a workflow, with up to two faults, and the commands that settle
// what the faults leave. The commands that reach all remaining nodes take turns: each settles one
// state; with ETCDPOD_EXPLORE=all, each of them settles every state. After one fault, a fixed part
// of the commands that somebody may type is typed, and may be struck: one in four, with -short one
// in 16. The second fault strikes nodes other than the coordinator's at a fixed part of the
// instants: one in 128, with -short one in 512. With ETCDPOD_MATRIX=full it is all of them.
func SettledAfterTwoFaults(t *testing.T, w Together) {
	e := NewExplorer()
	e.every = os.Getenv("ETCDPOD_EXPLORE") == "all"
	e.oneIn, e.typeOneIn = part(128), part(4)
	t.Log(e.explore(w.Fresh(t).Fork, killed, rebooted, cutOnce, cutForLong))
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	if e.Ends["new"] == 0 || e.Ends["old"] == 0 {
		t.Error("the exploration proves nothing: all ended alike")
	}
}

// CatchesMistakes plants mistakes in the protocol, one at a time, and requires that each is found:
// an exploration that cannot fail proves nothing. If the workflow has no phases to undo last,
// undoing everything in one round is no mistake; if it goes back only when all nodes can be asked,
// that has its own in place of a witness.
func CatchesMistakes(t *testing.T, w Together) {
	for name, mistake := range protocolMistakes() {
		first := w.Fresh(t)
		mistake(first)
		m, joint := first.Mistakes, first.joint(w.Nodes[0])
		if m.OneRound && len(joint.Last) == 0 || m.BackUnwitnessed && joint.BackWhole ||
			m.BackInPart && !joint.BackWhole {
			continue
		}
		t.Run(name, func(t *testing.T) {
			e := NewExplorer()
			e.explore(first.Fork) // losing the coordinator at a record is enough to find each
			if e.Err == nil {
				t.Fatal("the exploration did not notice")
			}
			t.Logf("caught after %d transitions: %v", e.transitions, e.Err)
		})
	}
}

// protocolMistakes are the mistakes to plant, by description.
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
		"nodes go back although another one cannot be asked": func(c *Cluster) { c.Mistakes.BackInPart = true },
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
