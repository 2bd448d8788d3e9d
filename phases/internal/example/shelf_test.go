// Package example is the workflow that CONTRIBUTING.md shows, line by line.
package example

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Options are what a person may ask of `shelf`.
type Options struct {
	Dir string // host path
}

// Shelf is the workflow that makes a directory for backups.
func Shelf(o Options) workflow {
	return workflow{Name: "shelf", Observe: o.observe, Phases: []phase{
		o.preflight(),
		o.makeDirectory(), // the commit point is at its end
	}}
}

type (
	phase = engine.Phase[*Facts]
	// workflow makes a directory for backups.
	workflow = engine.Workflow[*observe.Node, *Facts]
)

// Facts are what it depends on.
type Facts struct {
	*observe.Facts
	Taken bool // something has that name already
}

func (o Options) observe(ctx context.Context, n *observe.Node, run string) (*Facts, error) {
	seen, err := n.Observe(ctx, run)
	if err != nil {
		return nil, err
	}
	return o.look(n.FS, seen)
}

func (o Options) look(files node.Reader, seen *observe.Facts) (*Facts, error) {
	_, err := files.Lstat(o.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot look for %s: %w", o.Dir, err)
	}
	return &Facts{Facts: seen, Taken: err == nil}, nil
}

func (o Options) preflight() phase {
	return phase{Name: "preflight", Short: "check everything first",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			return nil, engine.Passes(f, o.checkName)
		}}
}

func (o Options) checkName(f *Facts) error {
	if !f.Taken {
		return nil
	}
	return engine.Refuse("name another directory", "cannot make %s: it is there already", o.Dir)
}

func (o Options) makeDirectory() phase {
	return phase{Name: "make-directory", Short: "make the directory, for root alone", Commit: true,
		Plan: func(context.Context, *Facts) ([]op.Op, error) {
			return []op.Op{&op.MakeDirectory{Path: o.Dir, Attr: node.Mine(0o700)}}, nil
		}}
}
