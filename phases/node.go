package phases

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// engineNode is the control-plane node that etcdpod runs on, as a run changes it. Nobody but the engine
// and the operations below it writes there: observers and phases are given a View.
type engineNode struct {
	Parts
	faults mistakes
}

// Parts are what a node is made of.
type Parts struct {
	Host         *node.Host
	Etcd         op.Etcd
	API          op.APIServer
	Certificates op.Certificates
	// Involved says whether a manifest must not run while one of the data directories is replaced.
	Involved func(manifest []byte, dataDirs []string) bool
	Version  string   // of etcdpod
	Command  []string // as typed
	Emit     func(Event)
	// Afterwards says, by workflow, how a person goes back from a run that cannot be rolled back any more.
	Afterwards map[string]func(notes map[string]string) string
}

// target is what the operations of a run work on.
func (n *engineNode) target() *op.Target {
	return &op.Target{Host: n.Host, Etcd: n.Etcd, APIServer: n.API, Certificates: n.Certificates, Involved: n.Involved}
}

// Do plans a workflow and carries it out as one run. confirm sees the plan, and its error ends the command before anything is touched.
func (n *engineNode) Do(ctx context.Context, w Work, confirm func(Plan) error) (err error) {
	if !w.unjournaled() {
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
	if w.unjournaled() {
		return n.pass(ctx, plan)
	}
	r, err := n.begin(id, plan)
	if err != nil {
		return err
	}
	return r.forward(ctx)
}

// Preview plans a workflow and changes nothing.
func (n *engineNode) Preview(ctx context.Context, w Work) (Plan, error) {
	_, plan, err := n.plan(ctx, w)
	return plan, err
}

func (n *engineNode) plan(ctx context.Context, w Work) (id string, plan Plan, err error) {
	if !w.unjournaled() {
		if err := refuseOpen(n.Host.FS); err != nil {
			return "", plan, err
		}
	}
	if id, err = n.newID(w.title()); err != nil {
		return "", plan, err
	}
	plan, err = w.plan(ctx, id)
	return id, plan, refuseKind(err)
}

// pass carries out the plan of a workflow that changes nothing of the node. Nothing is journaled: what it was cut off from is begun anew. On an error, what was started is undone.
func (n *engineNode) pass(ctx context.Context, plan Plan) error {
	r := &run{state: &journal.State{Run: journal.Run{Workflow: plan.Workflow, Node: plan.node}}, target: n.target(), emit: n.Emit}
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
func (n *View) hostPath(typed string) (string, error) {
	abs, err := filepath.Abs(typed)
	if err != nil {
		return "", fmt.Errorf("cannot find %s: %w", typed, err)
	}
	root := n.FS.Real("/")
	if root == "/" {
		return abs, nil
	}
	below, err := filepath.Rel(root, abs)
	if err != nil || below == ".." || strings.HasPrefix(below, "../") {
		return "", &UsageError{Reason: fmt.Sprintf("%s is not below the root %s", typed, root)}
	}
	return "/" + below, nil
}
