package together

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// Lost declares nodes destroyed, so that an open run on several nodes can be settled without them.
func (n *Node) Lost(names []string) { n.lost = names }

// settle ends an open run on several nodes, from any of them: forward, or back if that was asked
// for or if a node has rolled back. If neither can be decided without a node that cannot be asked,
// everything stays as it is.
func (n *Node) settle(ctx context.Context, r *engine.Run, back bool, skip []string) error {
	t, err := n.takeUp(r.State)
	if err != nil {
		return err
	}
	for _, name := range skip {
		if !slices.ContainsFunc(t.joint.Phases, func(p JointPhase) bool { return p.Name == name }) {
			return &engine.UsageError{Reason: fmt.Sprintf("run %s has no phase %q", r.State.Run.ID, name)}
		}
	}
	t.skip = skip
	defer t.Leave()
	reasons := t.gather(ctx, r.State.Run.Node,
		&Participant{Node: n, unlock: func() error { return nil }, Run: r}, false)
	states, err := t.states(ctx)
	if err != nil {
		return t.open(err)
	}
	verdict, why, err := t.verdict(states, r.State, back, reasons)
	switch {
	case err != nil:
		return err
	case verdict == goBack:
		return t.goBack(ctx, states, back, why)
	}
	return t.forward(ctx)
}

// previewSettling says what settle would do on each node, and changes nothing. It takes no lock, so
// it does not see what another etcdpod does meanwhile.
func (n *Node) previewSettling(
	ctx context.Context, own *journal.State, back bool,
) (plan engine.TogetherPlan, err error) {
	t, err := n.takeUp(own)
	if err != nil {
		return plan, err
	}
	defer t.Leave()
	reasons := t.gather(ctx, own.Run.Node, &Participant{Node: n}, true)
	states, left := map[string]partState{}, map[string]leftOver{}
	for _, p := range t.Peers {
		l, err := Query[leftOver](ctx, p, askLeft, t.Run)
		if err != nil {
			return plan, err
		}
		states[p.Name], left[p.Name] = l.State, l
	}
	verdict, _, err := t.verdict(states, own, back, reasons)
	if err != nil {
		return plan, err
	}
	for _, p := range t.Peers {
		node := engine.NodePlan{Node: p.Name, Plan: left[p.Name].Forward}
		if verdict == goBack {
			node.Plan = left[p.Name].Back
		}
		plan.Nodes = append(plan.Nodes, node)
	}
	for _, reason := range reasons {
		f := finding.New(finding.NodeUnreachable, "",
			"a node cannot be queried, and the run stays open until it can: %v", reason)
		plan.Notes, plan.Findings = append(plan.Notes, f.Text), append(plan.Findings, f)
	}
	return plan, nil
}

// takeUp rebuilds a run's transaction from one node's journal.
func (n *Node) takeUp(s *journal.State) (*Transaction, error) {
	for _, name := range n.lost {
		if _, ok := peerNamed(s.Run.Cluster, name); !ok || name == s.Run.Node {
			return nil, &engine.UsageError{Reason: fmt.Sprintf("--lost %s: run %s has no such other node",
				name, s.Run.ID)}
		}
	}
	joint, err := n.joint(s.Run.Workflow)
	if err != nil {
		return nil, err
	}
	cluster := *s.Run.Cluster
	cluster.SSHCommand = cmp.Or(n.reach.SSHCommand, cluster.SSHCommand)
	cluster.RemoteCommand = cmp.Or(n.reach.RemoteCommand, cluster.RemoteCommand)
	return &Transaction{Node: n, joint: joint, Run: s.Run.ID, Cluster: cluster, lost: n.lost}, nil
}

// verdict says what becomes of the run: forward or back. Otherwise the error says why that cannot
// be decided here.
func (t *Transaction) verdict(
	states map[string]partState, own *journal.State, back bool, reasons []error,
) (v verdict, why string, err error) {
	v, why = known{asked: states, mute: t.mute}.decide(back)
	if v == stay && back && t.Node.Mistakes.BackUnwitnessed {
		v = goBack
	}
	name := leftBehind(states)
	switch {
	case name != "" && (v == goForward || v == tooLate):
		return v, why, t.leftBehind(name)
	case v == tooLate && len(t.lost) > 0 && !anySettled(states):
		gone := strings.Join(t.lost, ",")
		hint := fmt.Sprintf("run `etcdpod resume --lost %s` to finish it on the remaining nodes", gone)
		return v, why, engine.Refuse(hint+t.Node.AfterwardsOf(own),
			"cannot roll back run %s: all remaining nodes hold the commit record, and %s may have passed the commit "+
				"point and acknowledged writes before it was lost", t.Run, gone)
	case v == tooLate:
		return v, why, t.Node.RefusePastCommit(own)
	case v == stay:
		cause := errors.New(why)
		if len(reasons) > 0 {
			cause = fmt.Errorf("%s: %w", why, errors.Join(reasons...))
		}
		return v, why, t.unasked(cause, states)
	}
	return v, why, nil
}

func (t *Transaction) leftBehind(name string) error {
	left := &engine.OpenRunError{Run: t.summary(), Cause: fmt.Errorf("the other nodes have ended the run without %s, "+
		"which was named with --lost: it can neither finish nor undo it", name)}
	if t.joint.LeftBehind != nil {
		left.Advice = t.joint.LeftBehind(name, t.Run)
	}
	return left
}

func anySettled(states map[string]partState) bool {
	for _, s := range states {
		if s.Settled {
			return true
		}
	}
	return false
}

// leftBehind returns a node that holds no commit record although another one has settled: it had
// been declared destroyed.
func leftBehind(states map[string]partState) string {
	for name, s := range states {
		if s.Begun && !s.Committed && anySettled(states) {
			return name
		}
	}
	return ""
}

func (t *Transaction) goBack(ctx context.Context, states map[string]partState, asked bool, witness string) error {
	cause := errors.New("rolled back as requested")
	if !asked {
		cause = fmt.Errorf("%s has undone the run, or never began it", witness)
	}
	witness = "" // none has rolled back yet: the first one becomes the witness
	for name, s := range states {
		if s.Aborted || !s.Begun {
			witness = name
		}
	}
	ctx = context.WithoutCancel(ctx)
	stopped := cause
	if asked {
		stopped = nil
	}
	if err := t.keepsPromises(ctx, states, stopped); err != nil {
		return err
	}
	err := t.back(ctx, states, cause, witness)
	var done *engine.RolledBackError
	if asked && errors.As(err, &done) {
		return nil
	}
	return err
}

// gather greets all nodes that can be reached, and says why the others cannot. own is this node's
// part, and here its name.
func (t *Transaction) gather(ctx context.Context, here string, own *Participant, reading bool) (reasons []error) {
	stands := make([]*Peer, 0, len(t.Cluster.Nodes))
	for _, at := range t.Cluster.Nodes {
		if !slices.Contains(t.lost, at.Name) {
			stands = append(stands, &Peer{Name: at.Name})
		}
	}
	met, failed := make([]*Peer, len(stands)), make([]error, len(stands))
	_ = t.All(stands, func(stand *Peer) error { // a node that does not answer delays no other
		i := slices.Index(stands, stand)
		at, _ := peerNamed(&t.Cluster, stand.Name)
		var part *Participant
		if at.Name == here {
			part = own
		}
		failed[i] = engine.Guarded(func() (err error) {
			met[i], err = t.meetAgain(ctx, at, part, reading)
			return err
		})
		return nil
	})
	for i, stand := range stands {
		if err := failed[i]; err != nil {
			t.muted(stand.Name, err)
			reasons = append(reasons, err)
			continue
		}
		t.Peers = append(t.Peers, met[i])
	}
	return reasons
}
