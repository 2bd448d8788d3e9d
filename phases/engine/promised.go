package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Promised says what clients were promised that going back would give up, unless somebody has
// agreed to that; nil: nothing. What cannot be asked is said, and is no obstacle. It can only be
// asked before the run goes back: whoever writes after that is found behind the fence, by the
// operation itself.
func (r *Run) Promised(ctx context.Context) *op.GivenUpError {
	if r.Target.GiveUp {
		return nil
	}
	for i, o := range r.Ops {
		holds, can := o.(op.Promising)
		if progress := r.State.Steps[i].Progress; !can || progress == journal.Pending || progress == journal.Reverted {
			continue
		}
		var writes int
		var kept string
		err := Guarded(func() (err error) {
			writes, kept, err = holds.Promised(ctx, r.Target)
			return err
		})
		switch {
		case err != nil:
			r.focus(i)
			r.Target.Report(fmt.Sprintf("cannot determine whether clients have written to the new data: %v", err))
		case writes > 0:
			return &op.GivenUpError{Writes: writes, Kept: kept}
		}
	}
	return nil
}

// backUnless takes the run back because of cause, unless clients were promised what that would give
// up; stopped is nil if a person asks for it.
func (r *Run) backUnless(ctx context.Context, stopped, cause error) error {
	ctx = context.WithoutCancel(ctx)
	if lost := r.Promised(ctx); lost != nil {
		return KeepsPromises(summarize(r.State), stopped, lost)
	}
	return r.back(ctx, cause)
}

// KeepsPromises refuses to roll back a run, or leaves it open, because of what [Run.Promised] has
// found.
func KeepsPromises(run RunSummary, cause error, lost *op.GivenUpError) error {
	if !run.Aborted && cause == nil {
		return Refuse("run `etcdpod resume` to finish it and keep what was written, or `etcdpod rollback "+
			"--give-up-writes` to put the old data back; the new data, with what was written, is then kept as "+
			lost.Kept,
			"cannot roll back run %s: %v", run.ID, lost)
	}
	advice := "fix what stopped it, then run `etcdpod resume` to finish it and keep what was written; `etcdpod " +
		"rollback --give-up-writes` undoes it and keeps the new data as " + lost.Kept
	if run.Aborted {
		advice = "stop the API server that someone has started; `etcdpod rollback --give-up-writes` then undoes the " +
			"run and keeps the new data, with what was written, as " + lost.Kept + ": it can be restored from there"
	}
	return &OpenRunError{Run: run, Cause: errors.Join(cause, lost), Advice: advice}
}
