package together

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// failed rolls back all nodes. No node holds the commit record.
func (t *Transaction) failed(ctx context.Context, cause error) error {
	ctx = context.WithoutCancel(ctx)
	t.reconnect(ctx)
	states, err := t.states(ctx)
	if err != nil {
		return t.open(errors.Join(cause, err))
	}
	if err := t.keepsPromises(ctx, states, cause); err != nil {
		return err
	}
	return t.back(ctx, states, cause, "")
}

// reconnect tries once to reach each node whose connection was lost.
func (t *Transaction) reconnect(ctx context.Context) {
	var still []*Peer
	for _, p := range t.Peers {
		_, err := Query[partState](ctx, p, askLoad, t.Run)
		if err == nil {
			still = append(still, p)
			continue
		}
		_ = p.Link.Close() // a new link replaces it
		if p.Here {        // no other reaches its disk
			t.muted(p.Name, err)
			continue
		}
		at, _ := peerNamed(&t.Cluster, p.Name)
		again, err := t.meetAgain(ctx, at, nil, false)
		if err != nil {
			t.muted(p.Name, err)
			continue
		}
		still = append(still, again)
	}
	t.Peers = still
}

// muted notes that a node cannot be asked, and why.
func (t *Transaction) muted(name string, why error) {
	if t.why == nil {
		t.why = map[string]error{}
	}
	t.mute, t.why[name] = append(t.mute, name), why
}

// back rolls back all nodes that can be asked: first those without the commit record, whose abort
// record is then the witness for the others. What the workflow undoes last stays done until
// everything else is undone on all of them: what runs on one node may use what runs on another.
func (t *Transaction) back(ctx context.Context, states map[string]partState, cause error, witness string) error {
	if t.joint.BackWhole && len(t.mute) > 0 && !t.Node.Mistakes.BackInPart {
		return t.unasked(errors.Join(cause, fmt.Errorf("%s could not be queried, and none goes back without it",
			strings.Join(t.mute, ", "))), nil)
	}
	var free, bound []*Peer
	for _, p := range t.Peers {
		switch s := states[p.Name]; {
		case !s.Begun:
			witness = p.Name
		case s.Committed && !s.Aborted:
			bound = append(bound, p)
		default:
			free = append(free, p)
		}
	}
	revert := func(stay []string) func(*Peer) error {
		return func(p *Peer) error {
			question := backQuestion{Cause: cause.Error(), Witness: witness, Stay: stay, GiveUp: t.Node.giveUp}
			return p.Ask(ctx, AskBack, question, nil, nil)
		}
	}
	last := t.joint.Last
	if t.Node.Mistakes.OneRound {
		last = nil
	}
	if err := t.undo(free, revert(last)); err != nil {
		return t.open(errors.Join(cause, err))
	}
	if len(free) > 0 {
		witness = free[0].Name
	}
	if err := t.undo(bound, revert(last)); err != nil {
		return t.open(errors.Join(cause, err))
	}
	if err := t.undo(slices.Concat(free, bound), revert(nil)); err != nil {
		return t.open(errors.Join(cause, err))
	}
	lacks, err := t.close()
	if err != nil {
		return err
	}
	return engine.WentBack(t.summary(), cause, lacks)
}

// undo does something on every node as the workflow goes back, whatever fails on others. In turn,
// one may wait for another that an earlier attempt left half-way: it is asked again after that.
func (t *Transaction) undo(peers []*Peer, do func(*Peer) error) error {
	if !t.joint.BackInTurn {
		return t.All(peers, do)
	}
	for {
		var failed []*Peer
		var errs error
		for _, p := range slices.Backward(peers) {
			if err := engine.Guarded(func() error { return do(p) }); err != nil {
				failed, errs = append(failed, p), errors.Join(errs, err)
			}
		}
		if len(failed) == 0 || len(failed) == len(peers) {
			return errs
		}
		slices.Reverse(failed)
		peers = failed
	}
}

// close closes the run on all nodes, the coordinator last, so that `resume` on the coordinator
// settles all of them. While a node cannot be asked, the run stays open on all nodes. lacks says
// what does not serve on the nodes that went back.
func (t *Transaction) close() (lacks, err error) {
	if len(t.mute) > 0 {
		return nil, t.unasked(fmt.Errorf("%s could not be queried, and must be settled, "+
			"too", strings.Join(t.mute, ", ")), nil)
	}
	states, err := t.states(context.Background())
	if err != nil {
		return nil, t.open(err)
	}
	lacking, away := map[*Peer]*error{}, map[*Peer]*float64{}
	for _, p := range t.Peers {
		lacking[p], away[p] = new(error), new(float64)
	}
	end := func(p *Peer) error {
		if s := states[p.Name]; !s.Begun || s.Closed {
			return nil
		}
		c, err := Query[closed](context.Background(), p, AskClose, nil)
		*lacking[p], *away[p] = c.on(p.Name), c.Away
		return err
	}
	coordinator, others := t.parted()
	for _, peers := range [][]*Peer{others, coordinator} {
		if err := t.All(peers, end); err != nil {
			return nil, t.open(err)
		}
	}
	for _, p := range t.Peers {
		lacks = errors.Join(lacks, *lacking[p])
		if *away[p] > 0 {
			*t.Node.outages = append(*t.Node.outages, Outage{p.Name, *away[p]})
		}
	}
	return lacks, nil
}

func (t *Transaction) open(cause error) error {
	open := &engine.OpenRunError{Run: t.summary(), Cause: cause}
	if t.joint.Advice != nil {
		open.Advice = t.joint.Advice(cause)
	}
	return open
}

// unasked leaves the run open because some nodes cannot be asked, or have lost their record of it.
func (t *Transaction) unasked(cause error, states map[string]partState) error {
	var blank []string
	for name, s := range states {
		if !s.Begun {
			blank = append(blank, name)
		}
	}
	slices.Sort(blank)
	return &engine.OpenRunError{Run: t.summary(), Cause: cause, Advice: t.advice(blank...)}
}

// advice says what to do about the nodes that cannot be asked: what cures that comes first, once
// for all that it cures; that they are lost last, and only of those that give no sign of life, or
// have no record of the run: such a machine may have been installed anew.
func (t *Transaction) advice(blank ...string) string {
	var kinds, cures, gone []string
	also := map[string][]string{}
	for _, name := range t.mute {
		kind, cure, alive := "silent", "fix the connection to "+name+", or start that node", false
		var unreached *UnreachedError
		switch why := t.why[name]; {
		case errors.As(why, &unreached):
			cure, alive = unreached.cure()
			kind = unreached.kind()
		case why != nil: // it answered
			cure, alive = engine.Hint(why), true
			kind = cure
		}
		switch {
		case slices.Contains(kinds, kind):
			also[kind] = append(also[kind], name)
		case cure != "":
			kinds, cures = append(kinds, kind), append(cures, cure)
		}
		if !alive {
			gone = append(gone, name)
		}
	}
	for i, kind := range kinds {
		if names := also[kind]; len(names) > 0 {
			cures[i] += "; the same for " + strings.Join(names, ", ")
		}
	}
	if len(blank) > 0 {
		cures = append(cures, fmt.Sprintf("see what `etcdpod runs` says on %s", strings.Join(blank, ", ")))
	}
	gone = append(gone, blank...)
	advice := strings.Join(append(cures, "then run the command again"), "; ")
	if len(gone) > 0 {
		advice += fmt.Sprintf("; only if a node's disk is destroyed, add --lost %s", strings.Join(gone, ","))
	}
	return advice
}

// summary is the run as this node lists it, unless that would hang.
func (t *Transaction) summary() engine.RunSummary {
	if t.Node.here.hung.Load() {
		return engine.RunSummary{ID: t.Run, Workflow: t.joint.Name, Command: t.Node.Command}
	}
	if run := engine.RunOf(t.Node.Host.FS, t.Run); run.ID != "" {
		return run
	}
	return engine.RunSummary{ID: t.Run}
}
