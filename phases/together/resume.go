package together

import (
	"cmp"
	"context"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// Resume finishes the open run: forward or, if it had begun to roll back, back. A run that is
// rolled back ends in a *RolledBackError.
//
// skip names phases past the commit point that are not waited for: their operations that only wait
// or look are skipped.
func (n *Node) Resume(ctx context.Context, skip ...string) error {
	return n.WithOpen(ctx, func(r *engine.Run) error {
		if err := r.SkipPhases(skip); err != nil {
			return err
		}
		if r.State.Run.Cluster != nil {
			return n.settle(ctx, r, false, skip)
		}
		return r.Finish(ctx)
	})
}

// Rollback rolls back the open run. Past the commit point it refuses.
func (n *Node) Rollback(ctx context.Context) error {
	return n.WithOpen(ctx, func(r *engine.Run) error {
		if r.State.Run.Cluster != nil {
			return n.settle(ctx, r, true, nil)
		}
		r.Target.GiveUp = r.Target.GiveUp || n.giveUp
		return r.TakeBack(ctx)
	})
}

// PreviewOpen says what `resume` or, with back, `rollback` would still do on each node of the run.
// It changes nothing. The plan of a run on this node alone carries no node's name.
func (n *Node) PreviewOpen(ctx context.Context, back bool) (plan engine.TogetherPlan, err error) {
	open, err := engine.OpenRun(n.Host.FS)
	if err != nil {
		return plan, err
	}
	if open.ID == "" {
		return plan, cmp.Or(n.OnControlPlane(ctx), engine.ErrNoOpenRun())
	}
	state, err := journal.Read(n.Host.FS, journal.RunDir(open.ID))
	if err != nil {
		return plan, err
	}
	if state.Run.Cluster != nil {
		return n.previewSettling(ctx, state, back)
	}
	if back && state.Forward() {
		return plan, n.RefusePastCommit(state)
	}
	ops, err := engine.Decode(state)
	if err != nil {
		return plan, err
	}
	plan.Nodes = []engine.NodePlan{{Plan: engine.Remaining(state, ops, back || state.Aborted != "")}}
	return plan, nil
}
