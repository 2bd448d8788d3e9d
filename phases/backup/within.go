package backup

import (
	"context"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Within plans a backup into [DefaultDir] as one operation of a run that changes something else. It
// refuses what `backup` refuses, and a cluster whose members do not hold the same: nobody could say
// to which of them there would be a way back. noted is what a person should know of it.
func Within(
	ctx context.Context, n *observe.Node, run string,
) (take *op.TakeBackup, noted []finding.Finding, err error) {
	o := Options{Dir: DefaultDir}
	f, err := o.observe(ctx, n, run)
	if err != nil {
		return nil, nil, err
	}
	if err := engine.Passes(f, o.checkEtcd, o.checkPlace, o.checkRoom, checkAlike); err != nil {
		return nil, nil, err
	}
	open := o.opening(f)
	open.Note = "" // it is among what was noted
	return &op.TakeBackup{Missing: f.Backup.Missing, Open: *open, Access: f.Access, Since: f.Backup.Since,
		Doubt: o.doubt(f)}, o.notes(f), nil
}

func checkAlike(f *Facts) error {
	if f.Agreement == nil || len(f.Agreement.Differ) == 0 {
		return nil
	}
	return engine.Refuse("`etcdpod restore` of a good backup on all nodes makes them alike again", "%s",
		Differing(f.Agreement.Differ).Text)
}
