package engine

import (
	"context"
	"errors"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Node is the control-plane node that etcdpod runs on, as a run changes it. Only the engine and the
// operations below it write there: observers and phases get a View.
type Node struct {
	Parts
	Faults Mistakes
}

// Parts are what a node is made of.
type Parts struct {
	Host         *node.Host
	Etcd         op.Etcd
	API          op.APIServer
	Certificates op.Certificates
	Stores       op.Stores
	// Involved says whether a manifest must not run while one of the data directories is replaced.
	Involved func(manifest []byte, dataDirs []string) bool
	// Elsewhere refuses what is meant for a control plane where nothing of one is, nor was; nil:
	// that is not asked.
	Elsewhere func(context.Context) error
	// Unready is why nothing may be changed on this node; nil: it may.
	Unready error
	Version string   // of etcdpod
	Command []string // as typed
	Emit    func(Event)
	// CarriesOut is told of the run that this process carries out, before anything of it is done,
	// and so before its first event, which another node may be long about; nil: nobody is told.
	CarriesOut func(run string)
	// TooLate says, by workflow, what a rollback would undo behind the commit point.
	TooLate map[string]TooLate
}

// TooLate is why a run past its commit point is not rolled back.
type TooLate struct {
	Why string // what others may rely on already, as half a sentence
	// Afterwards says how an operator reverses the run once it has ended; empty: in no way of its
	// own.
	Afterwards func(journal.Run) string
}

// Target is what the operations of a run work on.
func (n *Node) Target() *op.Target {
	return &op.Target{Host: n.Host, Etcd: n.Etcd, APIServer: n.API, Certificates: n.Certificates, Stores: n.Stores,
		Involved: n.Involved}
}

// Do plans a workflow and carries it out as one run. confirm sees the plan; if it returns an error,
// the command ends before anything is touched.
func (n *Node) Do(ctx context.Context, w Work, confirm func(Plan) error) (err error) {
	if !w.unjournaled() {
		if err := n.refusedElsewhere(ctx, w); err != nil {
			return err
		}
		unlock, busy := n.Lock(ctx)
		if busy != nil {
			return busy
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
		return n.Pass(ctx, id, plan)
	}
	r, err := n.Begin(id, plan)
	if err != nil {
		return err
	}
	return r.forward(ctx)
}

// OnControlPlane refuses where nothing of a control plane is, nor was. Whoever locks the node asks
// that first: not even the lock may be left on another machine.
func (n *Node) OnControlPlane(ctx context.Context) error {
	if n.Elsewhere == nil {
		return nil
	}
	return n.Elsewhere(ctx)
}

// refusedElsewhere refuses a workflow that can do nothing on this machine, without a trace.
func (n *Node) refusedElsewhere(ctx context.Context, w Work) error {
	if n.OnControlPlane(ctx) == nil {
		return nil
	}
	_, err := n.Preview(ctx, w) // one like init can begin here
	return err
}

// Preview plans a workflow and changes nothing.
func (n *Node) Preview(ctx context.Context, w Work) (Plan, error) {
	_, plan, err := n.plan(ctx, w)
	return plan, err
}

func (n *Node) plan(ctx context.Context, w Work) (id string, plan Plan, err error) {
	if !w.unjournaled() {
		if n.Unready != nil {
			return "", plan, n.Unready
		}
		if err := RefuseOpen(n.Host.FS); err != nil {
			return "", plan, err
		}
	}
	if id, err = n.NewID(w.title()); err != nil {
		return "", plan, err
	}
	if plan, err = w.plan(ctx, id); err == nil {
		n.Weigh(&plan)
	}
	return id, plan, RefuseKind(err)
}

// Pass carries out the plan of a workflow that changes nothing on the node. Nothing is journaled:
// if it is cut off, it starts over. On an error, what was started is undone.
func (n *Node) Pass(ctx context.Context, id string, plan Plan) error {
	r := &Run{State: &journal.State{Run: journal.Run{ID: id, Workflow: plan.Workflow, Node: plan.node}},
		Target: n.Target(), Emit: n.Emit}
	for _, p := range plan.Phases {
		for _, o := range p.ops {
			r.Ops = append(r.Ops, o)
			r.State.Steps = append(r.State.Steps, journal.StepState{Step: journal.Step{Phase: p.Name}})
		}
	}
	for i, o := range r.Ops {
		r.focus(i)
		r.announce(i)
		if err := Guarded(func() error { return o.Do(ctx, r.Target) }); err != nil {
			return errors.Join(err, r.unpass(ctx, i))
		}
		r.Emit(r.Event(i, Finished))
	}
	r.Emit(r.Event(-1, Ended))
	return nil
}

func (r *Run) unpass(ctx context.Context, last int) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for i := last; i >= 0; i-- {
		errs = append(errs, Guarded(func() error { return r.Ops[i].Undo(ctx, r.Target) }))
	}
	return errors.Join(errs...)
}
