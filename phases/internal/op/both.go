package op

import (
	"context"
	"errors"
)

// ExchangeBoth exchanges etcd's data, and its log where that is elsewhere, behind one fence: an
// etcd that somebody starts must not find the data of one with the log of the other. Data.Fence
// counts for both. Exactly one of Log and Contents is there.
type ExchangeBoth struct {
	Data     Exchange          `json:"data"`
	Log      *Exchange         `json:"log,omitempty"`
	Contents *ExchangeContents `json:"contents,omitempty"` // the log's directory is a mount point
}

// exchange is one of the two.
type exchange interface {
	Op
	Recorder
	Promising
	Lasting
	forth(*Target) error
	back(*Target) error
}

func (b *ExchangeBoth) log() exchange {
	if b.Contents != nil {
		return b.Contents
	}
	return b.Log
}

func (b *ExchangeBoth) String() string { return b.Data.String() + "; " + b.log().String() }

// Record notes which is which.
func (b *ExchangeBoth) Record(ctx context.Context, t *Target) error {
	return errors.Join(b.Data.Record(ctx, t), b.log().Record(ctx, t))
}

func (b *ExchangeBoth) Do(ctx context.Context, t *Target) error {
	return b.Data.Fence.behind(ctx, t, func() error {
		if err := b.Data.forth(t); err != nil {
			return err
		}
		return b.log().forth(t)
	})
}

func (b *ExchangeBoth) Undo(ctx context.Context, t *Target) error {
	return b.Data.Fence.behind(ctx, t, func() error {
		if err := agreed(ctx, t, b); err != nil {
			return err
		}
		if err := b.log().back(t); err != nil {
			return err
		}
		return b.Data.back(t)
	})
}

func (b *ExchangeBoth) Done(ctx context.Context, t *Target) (bool, error) {
	data, err := b.Data.Done(ctx, t)
	if err != nil || !data {
		return false, err
	}
	return b.log().Done(ctx, t)
}

// Promised asks the log.
func (b *ExchangeBoth) Promised(ctx context.Context, t *Target) (int, error) {
	return b.log().Promised(ctx, t)
}

func (b *ExchangeBoth) Aside() string { return b.Data.Staged }

// Lasts fails when one of them is not in place any more.
func (b *ExchangeBoth) Lasts(ctx context.Context, t *Target) error {
	return errors.Join(b.Data.Lasts(ctx, t), b.log().Lasts(ctx, t))
}
