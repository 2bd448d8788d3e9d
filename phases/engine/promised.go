package engine

import (
	"context"
	"errors"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Promised says what clients were promised that going back would give up, or that it is unknown,
// unless somebody has agreed to that; nil: nothing. It can only be asked before the run goes back:
// whoever writes after that is found behind the fence, by the operation itself.
func (r *Run) Promised(ctx context.Context) (lost *op.GivenUpError) {
	if r.Target.GiveUp {
		return nil
	}
	for i, o := range r.Ops {
		holds, can := o.(op.Promising)
		if progress := r.State.Steps[i].Progress; !can || progress == journal.Pending || progress == journal.Reverted {
			continue
		}
		var writes int
		err := Guarded(func() (err error) {
			writes, err = holds.Promised(ctx, r.Target)
			return err
		})
		switch {
		case err != nil:
			lost = &op.GivenUpError{Kept: holds.Aside(), Unknown: err.Error()}
		case writes > 0:
			return &op.GivenUpError{Writes: writes, Kept: holds.Aside()}
		}
	}
	return lost
}

// backUnless takes the run back because of cause, unless clients were promised what that would give
// up; stopped is nil if a person asks for it.
func (r *Run) backUnless(ctx context.Context, stopped, cause error) error {
	ctx = context.WithoutCancel(ctx)
	if err := KeepsPromises(summarize(r.State), stopped, r.Promised(ctx)); err != nil {
		return err
	}
	return r.back(ctx, cause)
}

// KeepsPromises refuses to roll back a run, or leaves it open, because of what [Run.Promised] has
// found. Where that is unknown only a person who asks for the rollback can be asked in turn: a run
// that failed, or has begun to go back, goes back, keeps the new data and says so.
func KeepsPromises(run RunSummary, cause error, lost *op.GivenUpError) error {
	if lost == nil || lost.Unknown != "" && (run.Aborted || cause != nil) {
		return nil
	}
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
