package engine

import (
	"bytes"
	"strconv"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// LastDone is the last operation of one kind that a finished run of this node has carried out, and
// that run. A later run that has worked on the same file explains what it is like now: then there
// is none.
func LastDone[O op.Op](fsys node.Reader, file func(O) string) (run RunSummary, last O, found bool) {
	runs, err := journal.List(fsys)
	if err != nil {
		return run, last, false
	}
	for _, r := range runs {
		if r.State == nil || r.State.Outcome() != journal.Completed {
			continue
		}
		for _, s := range r.State.Steps {
			if found && r.ID != run.ID && bytes.Contains(s.Op, []byte(strconv.Quote(file(last)))) {
				found = false
			}
			if s.Progress != journal.Done || !op.Can[O](s.Kind) {
				continue
			}
			if o, err := op.Decode(s.Kind, s.Op); err == nil {
				last, _ = o.(O)
				run, found = summarize(r.State), true
			}
		}
	}
	return run, last, found
}

// LastNode is what the last run of this node calls it; empty: there is none.
func LastNode(fsys node.Reader) (name string) {
	runs, err := journal.List(fsys)
	if err != nil {
		return ""
	}
	for _, r := range runs {
		if r.State != nil && r.State.Run.Node != "" {
			name = r.State.Run.Node
		}
	}
	return name
}
