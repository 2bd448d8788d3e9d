package together

import (
	"context"
	"encoding/json"
	"io"
	"slices"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// Joint is a workflow that several nodes carry out as one run. It holds everything that the
// transaction knows about the workflow.
type Joint struct {
	Name   string // of the workflow, as in the journal
	Phases []JointPhase

	// Before and After are what the coordinator does before a phase begins on any node, and after
	// it has ended on all nodes, by the name of the phase. An error fails that phase.
	Before, After map[string]func(context.Context, *Transaction) error

	// Last are the phases that are undone last: they stay done on every node until everything after
	// them is undone on all nodes.
	Last []string

	// BackInTurn says that going back, too, is for one node after the other, the last one first:
	// what stops on one serves again before the next one's stops.
	BackInTurn bool

	// BackWhole says that going back begins only when every node that is not lost can be asked:
	// what one undoes takes what another runs.
	BackWhole bool

	// Advice says what to do first about the cause that keeps a run open; empty when there is
	// nothing special to do.
	Advice func(cause error) string

	// LeftBehind says what to do about a node that was declared destroyed, and without which the
	// other nodes have ended the run; nil when there is nothing special to do.
	LeftBehind func(node, run string) string

	// Answers returns the replies to what the coordinator may ask a node in addition to the
	// transaction's own questions, by question. It is called once per connection.
	Answers func(*Participant) map[string]Reply
}

// JointPhase is a phase as the transaction sees it.
type JointPhase struct {
	Name   string
	Commit bool // the commit point follows it
	InTurn bool // one node after the other, not all at once
}

// JointPhases are the phases of a workflow as the transaction sees them.
func JointPhases[F engine.Observed](phases []engine.Phase[F]) []JointPhase {
	var all []JointPhase
	for _, p := range phases {
		all = append(all, JointPhase{p.Name, p.Commit, p.InTurn})
	}
	return all
}

// behind returns the phases past the commit point.
func (j Joint) behind() []JointPhase {
	return j.Phases[slices.IndexFunc(j.Phases, func(p JointPhase) bool { return p.Commit })+1:]
}

// Reply answers one question: with is the question's payload, as JSON; file is what follows it on
// the wire, normally nil.
type Reply func(ctx context.Context, with json.RawMessage, file io.Reader) (any, error)

// Given makes a Reply from a function that takes the question's payload.
func Given[T any](f func(context.Context, T) (any, error)) Reply {
	return func(ctx context.Context, with json.RawMessage, _ io.Reader) (any, error) {
		q, err := Read[T](with)
		if err != nil {
			return nil, err
		}
		return f(ctx, q)
	}
}

// peerNamed returns the named node.
func peerNamed(c *journal.Cluster, name string) (journal.Peer, bool) {
	i := slices.IndexFunc(c.Nodes, func(p journal.Peer) bool { return p.Name == name })
	if i < 0 {
		return journal.Peer{}, false
	}
	return c.Nodes[i], true
}
