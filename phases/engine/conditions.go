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
