package phases

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Node is the control-plane node that etcdpod runs on.
type Node struct {
	host    *node.Host
	etcd    op.Etcd
	api     op.APIServer
	certs   op.Certificates
	name    string   // host name
	version string   // of etcdpod
	command []string // as typed
	emit    func(Event)
	faults  faults
	kubelet node.KubeletConfig
	access  accessFlags

	connect  func(*journal.Cluster, journal.Peer) (io.ReadWriteCloser, error) // to an agent on another node
	gather   func(context.Context, string) (*Facts, error)                    // nil: observe; tests have a simulated node
	oneByOne bool                                                             // tests: nodes act one after another, so that a run can be repeated
	lost     []string                                                         // nodes that are declared destroyed
}

// accessFlags are what the command line says of how to reach etcd. Certificates are paths of this process.
type accessFlags struct {
	endpoints         []string
	caCert, cert, key string
}

// bound is the real etcd on this node.
func (n *Node) bound() boundEtcd { return etcdOf(n.host.FS) }

// target is what the operations of a run work on.
func (n *Node) target() *op.Target {
	return &op.Target{Host: n.host, Etcd: n.etcd, APIServer: n.api, Certificates: n.certs, Involved: func(data []byte, dataDirs []string) bool {
		m, err := manifests.Parse(data)
		return err == nil && involved(m, dataDirs...)
	}}
}

// Do plans a workflow and carries it out as one run. confirm sees the plan, and its error ends the command before anything is touched.
func (n *Node) Do(ctx context.Context, w Workflow, confirm func(Plan) error) (err error) {
	if !w.Passing {
		unlock, err := n.lock(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	id, plan, err := n.plan(ctx, w)
	if err != nil {
		return err
	}
	if err := confirm(plan); err != nil {
		return err
	}
	if w.Passing {
		return n.pass(ctx, plan)
	}
	r, err := n.begin(id, plan)
	if err != nil {
		return err
	}
	return r.forward(ctx)
}

// Preview plans a workflow and changes nothing.
func (n *Node) Preview(ctx context.Context, w Workflow) (Plan, error) {
	_, plan, err := n.plan(ctx, w)
	return plan, err
}

func (n *Node) plan(ctx context.Context, w Workflow) (id string, plan Plan, err error) {
	if !w.Passing {
		if err := n.refuseOpen(); err != nil {
			return "", plan, err
		}
	}
	if id, err = n.newID(w.Name); err != nil {
		return "", plan, err
	}
	facts, err := w.observe(ctx, n, id)
	if err == nil {
		plan, err = w.plan(ctx, facts)
	}
	return id, plan, refuseKind(err)
}

// pass carries out the plan of a workflow that changes nothing of the node. Nothing is journaled: what it was cut off from is begun anew. On an error, what was started is undone.
func (n *Node) pass(ctx context.Context, plan Plan) error {
	r := &run{state: &journal.State{Run: journal.Run{Workflow: plan.Workflow, Node: plan.node}}, target: n.target(), emit: n.emit}
	for _, p := range plan.Phases {
		for _, o := range p.ops {
			r.ops = append(r.ops, o)
			r.state.Steps = append(r.state.Steps, journal.StepState{Step: journal.Step{Phase: p.Name}})
		}
	}
	for i, o := range r.ops {
		r.focus(i)
		r.announce(i)
		if err := o.Do(ctx, r.target); err != nil {
			return errors.Join(err, r.unpass(ctx, i))
		}
		r.emit(r.event(i, Finished))
	}
	r.emit(r.event(-1, Ended))
	return nil
}

func (r *run) unpass(ctx context.Context, last int) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for i := last; i >= 0; i-- {
		errs = append(errs, r.ops[i].Undo(ctx, r.target))
	}
	return errors.Join(errs...)
}

// hostPath returns a path that a person typed as a host path. With --root it must lie below the root.
func (n *Node) hostPath(typed string) (string, error) {
	abs, err := filepath.Abs(typed)
	if err != nil {
		return "", fmt.Errorf("cannot find %s: %w", typed, err)
	}
	root := n.host.FS.Real("/")
	if root == "/" {
		return abs, nil
	}
	below, err := filepath.Rel(root, abs)
	if err != nil || below == ".." || strings.HasPrefix(below, "../") {
		return "", &UsageError{Reason: fmt.Sprintf("%s is not below the root %s", typed, root)}
	}
	return "/" + below, nil
}
