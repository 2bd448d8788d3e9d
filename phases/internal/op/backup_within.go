package op

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// TakeBackup takes a proven backup as one step of a run that changes something else. It is kept
// whatever becomes of the run: who goes back may want it all the more. One that is cut off is
// removed by the next, and taken once more.
type TakeBackup struct {
	repeated
	Missing []string   `json:"missing,omitempty"` // directories to make, outermost first
	Open    OpenBackup `json:"open"`
	Access  Access     `json:"access"`
	// As in [KeepBackup].
	Since time.Time `json:"since,omitzero"`
	Doubt string    `json:"doubt,omitempty"`
}

func (b *TakeBackup) String() string {
	return fmt.Sprintf("take a backup of the etcd at %s, prove it, and keep it in %s as "+
		"etcd-<node>-<UTC>-r<revision>.db", b.Access.Endpoints[0], b.Open.Dir)
}

func (b *TakeBackup) Do(ctx context.Context, t *Target) error {
	for _, dir := range b.Missing {
		if err := node.MkdirAll(t.Host.FS, dir, node.Mine(0o700)); err != nil {
			return err
		}
	}
	open := b.Open
	// Only root can write there, so that the names need not be secret: they only differ.
	open.Draft = &Draft{secret: strconv.FormatInt(t.Host.Clock.Now().UnixNano(), 36)}
	w := open.Workspace
	keep := &KeepBackup{Workspace: w, Since: b.Since, Doubt: b.Doubt}
	steps := []Op{&open, &SaveSnapshot{Workspace: w, Access: b.Access}, &ProveBackup{Workspace: w}, keep}
	for i, step := range steps {
		err := step.Do(ctx, t)
		if err == nil {
			continue
		}
		for ; i >= 0; i-- {
			err = errors.Join(err, steps[i].Undo(context.WithoutCancel(ctx), t))
		}
		return err
	}
	made := keep.Made()
	t.report("the backup is %s, revision %d: proven", keep.Kept, made.Revision)
	return nil
}
