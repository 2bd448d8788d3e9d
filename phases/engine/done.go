package engine

import (
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

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
