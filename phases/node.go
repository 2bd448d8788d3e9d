package phases

import (
	"context"
	"errors"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Node is the control-plane node that etcdpod runs on.
type Node struct {
	host    *node.Host
	etcd    op.Etcd
	api     op.APIServer
	name    string   // host name
	version string   // of etcdpod
	command []string // as typed
	emit    func(Event)
	faults  faults
}

// target is what the operations of a run work on.
func (n *Node) target() *op.Target {
	return &op.Target{Host: n.host, Etcd: n.etcd, APIServer: n.api, Involved: func(data []byte, dataDirs []string) bool {
		m, err := manifests.Parse(data)
		return err == nil && involved(m, dataDirs...)
	}}
}

// Do plans a workflow and carries it out as one run. confirm sees the plan, and its error ends the command before anything is touched.
func (n *Node) Do(ctx context.Context, w Workflow, gather func(context.Context, string) (*Facts, error), confirm func(Plan) error) (err error) {
	unlock, err := n.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := n.refuseOpen(ctx); err != nil {
		return err
	}
	id, err := n.newID(w.Name)
	if err != nil {
		return err
	}
	facts, err := gather(ctx, id)
	if err != nil {
		return err
	}
	plan, err := w.plan(ctx, facts)
	if err != nil {
		return err
	}
	if err := confirm(plan); err != nil {
		return err
	}
	r, err := n.begin(id, plan)
	if err != nil {
		return err
	}
	return r.forward(ctx)
}

// Preview plans a workflow and changes nothing.
func (n *Node) Preview(ctx context.Context, w Workflow, gather func(context.Context, string) (*Facts, error)) (Plan, error) {
	if err := n.refuseOpen(ctx); err != nil {
		return Plan{}, err
	}
	id, err := n.newID(w.Name)
	if err != nil {
		return Plan{}, err
	}
	facts, err := gather(ctx, id)
	if err != nil {
		return Plan{}, err
	}
	return w.plan(ctx, facts)
}
