package together

import (
	"context"
	"encoding/json"
	"io"
	"slices"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// Joint is a workflow that several nodes carry out as one run. All that the transaction
// knows of it is here.
type Joint struct {
	Name   string // of the workflow; the journal has it
	Phases []JointPhase

	// Before and After are what the coordinator does before a phase begins on any node, and when it
	// has ended on all, by the phase's name. An error is a failure of that phase.
	Before, After map[string]func(context.Context, *Transaction) error

	// Last are the phases that are undone last: they stay done on every node until all that came
	// after them is undone on all.
	Last []string

	// Advice says what a person should do first about what keeps a run open; empty where
	// there is nothing special.
	Advice func(cause error) string

	// LeftBehind says what a person does about a node that had been declared destroyed, and without
	// which the others have ended the run; nil where there is nothing special.
	LeftBehind func(node, run string) string

	// Answers are what the coordinator may ask a node besides what the transaction itself asks, by
	// question. It is called once for each connection.
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

// behind are the phases behind the commit point.
func (j Joint) behind() []JointPhase {
	return j.Phases[slices.IndexFunc(j.Phases, func(p JointPhase) bool { return p.Commit })+1:]
}

// Reply answers one question: with is what goes with it, as JSON; file is what follows it on the
// wire, nil as a rule.
type Reply func(ctx context.Context, with json.RawMessage, file io.Reader) (any, error)

// Given makes an answer of a function that is told what goes with the question.
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
