package phases

import (
	"context"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// stillHolds waits again for what operations before the i-th waited for in an earlier process: the node may have been booted since. Behind the commit point
// every operation waits for itself.
func (r *run) stillHolds(ctx context.Context, i int) error {
	if i >= r.state.Run.CommitAt {
		return nil
	}
	for j, o := range r.ops[:i] {
		_, must := o.(op.Condition)
		if !must || slices.Contains(r.held, j) || r.state.Steps[j].Progress != journal.Done {
			continue
		}
		if err := o.Do(ctx, r.target); err != nil {
			return err
		}
		r.held = append(r.held, j)
	}
	return nil
}
