package together

import (
	"context"
	"errors"
	"slices"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// Planner is a joint workflow with what a person has asked of it: it convenes the nodes, and lets
// each plan its part. Nothing is changed by that.
type Planner func(context.Context, *Node) (*Transaction, engine.TogetherPlan, error)

// Plans is how a workflow plans, with what a person has asked of it.
func Plans[O any](plan func(context.Context, *Node, O) (*Transaction, engine.TogetherPlan, error), o O) Planner {
	return func(ctx context.Context, n *Node) (*Transaction, engine.TogetherPlan, error) { return plan(ctx, n, o) }
}

// CarryOut plans the run, and begins it once confirm has seen the plans; if that returns an error,
// the command ends before anything is touched.
func (plan Planner) CarryOut(ctx context.Context, n *Node, confirm func(engine.TogetherPlan) error) error {
	t, plans, err := plan(ctx, n)
	if t != nil {
		defer t.Leave()
	}
	if err != nil {
		return err
	}
	if err := confirm(plans); err != nil {
		return err
	}
	return t.Begin(ctx)
}

// Preview plans the run, and leaves the nodes again.
func (plan Planner) Preview(ctx context.Context, n *Node) (engine.TogetherPlan, error) {
	t, plans, err := plan(ctx, n)
	if t != nil {
		t.Leave()
	}
	return plans, err
}

// ErrNoSurvey is returned by a node that is to plan its part before it was asked what it has.
var ErrNoSurvey = errors.New("cannot plan: no survey was made")

// QueryEach asks each node a question of its own, and returns the answers in the order of t.Peers.
// The answers that came stand there also with an error.
func QueryEach[T any](ctx context.Context, t *Transaction, question string, with func(*Peer) any) ([]T, error) {
	answers := make([]T, len(t.Peers))
	err := t.Each(ctx, func(ctx context.Context, p *Peer) (err error) {
		answers[slices.Index(t.Peers, p)], err = Query[T](ctx, p, question, with(p))
		return err
	})
	return answers, err
}

// QueryAll asks all nodes the same, as QueryEach.
func QueryAll[T any](ctx context.Context, t *Transaction, question string, with any) ([]T, error) {
	return QueryEach[T](ctx, t, question, func(*Peer) any { return with })
}

// PlanEach has each node plan its part of a question of its own. The plans that came stand there
// also with an error.
func PlanEach(
	ctx context.Context, t *Transaction, question string, with func(*Peer) any,
) ([]engine.NodePlan, error) {
	own, err := QueryEach[engine.Plan](ctx, t, question, with)
	plans := make([]engine.NodePlan, len(own))
	for i, p := range t.Peers {
		plans[i] = engine.NodePlan{Node: p.Name, Plan: own[i]}
	}
	return plans, err
}

// PlanAll asks all nodes the same, as PlanEach.
func PlanAll(ctx context.Context, t *Transaction, question string, with any) ([]engine.NodePlan, error) {
	return PlanEach(ctx, t, question, func(*Peer) any { return with })
}
