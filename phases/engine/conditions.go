package engine

import (
	"context"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// StillHolds waits again for what operations before the i-th waited for in an earlier process: the
// node may have rebooted since. Past the commit point every operation waits for itself.
func (r *Run) StillHolds(ctx context.Context, i int) error {
	if i >= r.State.Run.CommitAt {
		return nil
	}
	for j, o := range r.Ops[:i] {
		_, must := o.(op.Condition)
		if !must || slices.Contains(r.held, j) || r.State.Steps[j].Progress != journal.Done {
			continue
		}
		if err := o.Do(ctx, r.Target); err != nil {
			return err
		}
		r.held = append(r.held, j)
	}
	return nil
}

// Hold makes what the run has fenced true again, and proves it: before the commit point nothing may
// run on the data but what the run has let run. It does nothing where nothing was fenced yet, and
// past the commit point.
func (r *Run) Hold(ctx context.Context) error {
	if r.State.Committed || r.State.Aborted != "" {
		return nil
	}
	for i := min(r.State.Run.CommitAt, len(r.Ops)) - 1; i >= 0; i-- {
		guard, can := r.Ops[i].(op.Guard)
		// What is in doubt is carried out again.
		if !can || r.State.Steps[i].Progress != journal.Done {
			continue
		}
		r.focus(i)
		if says, err := guard.Guard(ctx, r.Target); says || err != nil {
			return err
		}
	}
	return nil
}

// Lasts fails when somebody has taken away what the run has put in place: it must not be closed as
// done then.
func (r *Run) Lasts(ctx context.Context) error { return r.lasts(ctx, len(r.Ops)) }

// lasts fails when somebody has taken away what the i-th operation relies on.
func (r *Run) lasts(ctx context.Context, i int) error {
	if r.faults.DataUnlooked {
		return nil
	}
	for j, o := range r.Ops[:i] {
		if lasting, can := o.(op.Lasting); can && r.State.Steps[j].Progress == journal.Done {
			if err := lasting.Lasts(ctx, r.Target); err != nil {
				return err
			}
		}
	}
	return nil
}
