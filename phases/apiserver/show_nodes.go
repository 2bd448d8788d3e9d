package apiserver

import (
	"context"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// NodesReport is the result of `apiserver show --nodes`. The JSON names are stable.
type NodesReport struct {
	Nodes []NodeReport `json:"nodes"`
}

// NodeReport is one node of several.
type NodeReport struct {
	Node   string  `json:"node"`
	Error  string  `json:"error,omitempty"` // why it could not be queried, or has no report
	Hint   string  `json:"hint,omitempty"`  // what cures that
	Report *Report `json:"report,omitempty"`
}

const askShow = "apiserver-show"

// Replies are the answers of a node that is only looked at.
func Replies(n *observe.Node) map[string]together.Reply {
	return map[string]together.Reply{
		askShow: together.Given(func(ctx context.Context, _ any) (any, error) { return Show(ctx, n) }),
	}
}

// ShowNodes examines the API servers of several nodes, through agents as a run does, and changes
// nothing. A node that cannot be queried is part of the report.
func ShowNodes(ctx context.Context, n *together.Node, c journal.Cluster) (NodesReport, error) {
	r := NodesReport{Nodes: make([]NodeReport, len(c.Nodes))}
	t, errs, err := n.LookAt(ctx, c, func(p *together.Peer, i int) error {
		return p.Ask(ctx, askShow, nil, &r.Nodes[i].Report, nil)
	})
	if err != nil {
		return r, err
	}
	t.Leave()
	for i, err := range errs {
		if r.Nodes[i].Node = c.Nodes[i].Name; err != nil {
			r.Nodes[i].Error, r.Nodes[i].Hint, r.Nodes[i].Report = err.Error(), engine.Hint(err), nil
		}
	}
	return r, ctx.Err()
}
