package phases

import (
	"context"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// Resume finishes the open run: forward, or, when it had turned back already, back. A run that goes back ends in a *RolledBackError.
//
// Behind the commit point skip names phases that are not waited for: their operations that only wait or look are left out.
func (n *togetherNode) Resume(ctx context.Context, skip ...string) error {
	return n.withOpen(ctx, func(r *run) error {
		if err := r.skipPhases(skip); err != nil {
			return err
		}
		if r.state.Run.Cluster != nil {
			return n.settle(ctx, r, false, skip)
		}
		return r.finish(ctx)
	})
}

// Rollback takes the open run back. Past its commit point it refuses.
func (n *togetherNode) Rollback(ctx context.Context) error {
	return n.withOpen(ctx, func(r *run) error {
		if r.state.Run.Cluster != nil {
			return n.settle(ctx, r, true, nil)
		}
		return r.takeBack(ctx)
	})
}

// PreviewOpen tells what `resume`, or with back `rollback`, would still do, on each node of the run, and changes nothing. The plan of a run of this node alone has no node's name.
func (n *togetherNode) PreviewOpen(ctx context.Context, back bool) (plan TogetherPlan, err error) {
	open, err := openRun(n.Host.FS)
	if err != nil {
		return plan, err
	}
	if open.ID == "" {
		return plan, errNoOpenRun()
	}
	state, err := journal.Read(n.Host.FS, journal.RunDir(open.ID))
	if err != nil {
		return plan, err
	}
	if state.Run.Cluster != nil {
		return n.previewSettling(ctx, state, back)
	}
	if back && state.Forward() {
		return plan, n.refusePastCommit(state)
	}
	ops, err := decode(state)
	if err != nil {
		return plan, err
	}
	plan.Nodes = []NodePlan{{Plan: remaining(state, ops, back || state.Aborted != "")}}
	return plan, nil
}
