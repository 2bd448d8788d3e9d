package phases

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// Lost declares nodes destroyed, so that an open run on several nodes can be settled without them.
func (n *Node) Lost(names []string) { n.lost = names }

// settle ends an open run on several nodes, from any of them: forward, or back when that was asked for or a node has gone back. Where neither may be decided
// without a node that cannot be asked, all stays as it is.
func (n *Node) settle(ctx context.Context, r *run, back bool, skip []string) error {
	cluster := r.state.Run.Cluster
	t := &transaction{node: n, run: r.state.Run.ID, cluster: *cluster, lost: n.lost, skip: skip}
	for _, name := range n.lost {
		if _, ok := peerNamed(cluster, name); !ok || name == r.state.Run.Node {
			return &UsageError{Reason: fmt.Sprintf("--lost %s: the run %s has no such other node", name, r.state.Run.ID)}
		}
	}
	defer t.leave()
	reasons := t.gather(ctx, r)
	states, err := t.states(ctx)
	if err != nil {
		return t.open(err)
	}
	verdict, why := known{asked: states, mute: t.mute, lost: t.lost}.decide(back)
	if verdict == stay && back && n.faults.backUnwitnessed {
		verdict = goBack
	}
	if name := leftBehind(states); name != "" && (verdict == goForward || verdict == tooLate) {
		return &OpenRunError{Run: t.summary(), Cause: fmt.Errorf("the others have ended the run without %s, which was named with --lost, and serve the restored data: neither forward nor back is there a place for it", name),
			Advice: fmt.Sprintf("on %s, move etcd's data directory, the manifests in the run's folder and %s away, and let it join the cluster anew", name, journal.RunDir(t.run))}
	}
	switch {
	case verdict == tooLate:
		return refusePastCommit(r.state)
	case verdict == stay:
		return t.unasked(fmt.Errorf("%s: %w", why, errors.Join(reasons...)))
	case verdict == goBack:
		return t.goBack(ctx, states, back, why)
	}
	return t.forward(ctx)
}

// leftBehind returns a node that holds no commit record although another one has settled: it had been given up.
func leftBehind(states map[string]partState) string {
	settled := false
	for _, s := range states {
		settled = settled || s.Settled
	}
	for name, s := range states {
		if settled && s.Begun && !s.Committed {
			return name
		}
	}
	return ""
}

func (t *transaction) goBack(ctx context.Context, states map[string]partState, asked bool, witness string) error {
	cause := errors.New("rolled back as asked")
	if !asked {
		cause = fmt.Errorf("%s has gone back, or never began", witness)
	}
	if !slices.Contains(t.lost, witness) {
		witness = "" // it is told first, and then stands for the others
		for name, s := range states {
			if s.Aborted || !s.Begun {
				witness = name
			}
		}
	}
	err := t.back(context.WithoutCancel(ctx), states, cause, witness)
	var done *RolledBackError
	if asked && errors.As(err, &done) {
		return nil
	}
	return err
}

// gather meets all nodes that can be met, and says why others cannot.
func (t *transaction) gather(ctx context.Context, r *run) (reasons []error) {
	for _, at := range t.cluster.Nodes {
		if slices.Contains(t.lost, at.Name) {
			continue
		}
		var part *participant
		if at.Name == r.state.Run.Node {
			part = &participant{node: t.node, unlock: func() error { return nil }, run: r}
		}
		p, err := t.node.meet(ctx, &t.cluster, at, part, false)
		if err != nil {
			t.mute = append(t.mute, at.Name)
			reasons = append(reasons, err)
			continue
		}
		t.peers = append(t.peers, p)
	}
	return reasons
}
