package together

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// Transaction drives one run on several nodes to a single end, however far each of them got. Each
// phase is a barrier: no node begins the next one until all nodes have ended this one. It knows
// nothing that is not in the journals: any node can take the run up again and go on.
type Transaction struct {
	Node    *Node
	joint   Joint
	Run     string
	Cluster journal.Cluster
	Peers   []*Peer  // the nodes that can be asked, in the cluster's order
	mute    []string // the nodes that cannot be asked
	lost    []string // the nodes that are declared destroyed
	skip    []string // phases that are not waited for

	why map[string]error // why nodes cannot be asked, by name, as far as it is known
}

// Peer is one node of a transaction, as this node sees it.
type Peer struct {
	Name string
	Link link
	Here bool // this process runs on it

	asking sync.Mutex // one question at a time
}

// Ask puts a question to the node. An error names the node on which it occurred; errors from an
// agent already do.
func (p *Peer) Ask(ctx context.Context, question string, with, answer any, b *Body) error {
	p.asking.Lock()
	defer p.asking.Unlock()
	return p.ask(ctx, question, with, answer, b)
}

func (p *Peer) ask(ctx context.Context, question string, with, answer any, b *Body) error {
	err := p.Link.Ask(ctx, question, with, answer, b)
	if err != nil && p.Here {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return err
}

// Query asks a node something, and reads its answer. An error names the node.
func Query[T any](ctx context.Context, p *Peer, question string, with any) (answer T, err error) {
	err = p.Ask(ctx, question, with, &answer, nil)
	return answer, err
}

// Meet opens a link to one node and greets it.
func (n *Node) Meet(
	ctx context.Context, workflow string, c *journal.Cluster, at journal.Peer, part *Participant, reading bool,
) (*Peer, error) {
	p := &Peer{Name: at.Name, Here: part != nil}
	if p.Here {
		p.Link = local(part)
	}
	hello, err := n.greet(ctx, c, at, p, HelloQuestion{Protocol: Protocol, Version: n.Version, Command: n.Command,
		Workflow: workflow, Reading: reading})
	if err != nil {
		if p.Link != nil {
			err = errors.Join(err, p.Link.Close())
		}
		return nil, err
	}
	if hello.Node != at.Name {
		return nil, errors.Join(engine.Refuse("give each node as NAME=HOST, with the name that kubeadm gave it",
			"the host %s is the node %s, and not %s", at.Host, hello.Node, at.Name), p.Link.Close())
	}
	return p, nil
}

func (t *Transaction) Leave() {
	for _, p := range t.Peers {
		// An agent that does not end keeps its node's lock; the next command refused there names
		// it.
		_ = p.Link.Close()
	}
}

// Each does something on all nodes at once, and returns the first failure, which also tells the
// other nodes to stop.
func (t *Transaction) Each(ctx context.Context, do func(context.Context, *Peer) error) error {
	return t.eachOf(ctx, t.Peers, do)
}

func (t *Transaction) eachOf(ctx context.Context, peers []*Peer, do func(context.Context, *Peer) error) error {
	if t.Node.OneByOne {
		return t.inTurn(ctx, peers, do)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var first sync.Once
	var cause error
	var wg sync.WaitGroup
	for _, p := range peers {
		wg.Go(func() {
			if err := engine.Guarded(func() error { return do(ctx, p) }); err != nil {
				// The failures that follow only say that the nodes were told to stop.
				first.Do(func() { cause = err })
				stop()
			}
		})
	}
	wg.Wait()
	return cause
}

func (t *Transaction) inTurn(ctx context.Context, peers []*Peer, do func(context.Context, *Peer) error) error {
	for _, p := range peers {
		if err := do(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// All does something on every node, whatever fails on others, and returns all failures.
func (t *Transaction) All(peers []*Peer, do func(*Peer) error) error {
	errs := make([]error, len(peers))
	if t.Node.OneByOne {
		for i, p := range peers {
			errs[i] = do(p)
		}
		return errors.Join(errs...)
	}
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() { errs[i] = engine.Guarded(func() error { return do(p) }) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// forward carries out the rest of the run. Before the commit point a failure rolls back all nodes.
func (t *Transaction) forward(ctx context.Context) error {
	settled, err := t.settled(ctx)
	if err != nil {
		return t.open(err)
	}
	behind := false
	for _, phase := range t.joint.Phases {
		if !behind && settled { // everything before the commit point is done on all nodes
			behind = phase.Commit
			continue
		}
		if err := t.mistake(ctx, phase); err != nil {
			return t.open(err)
		}
		carryOut := t.barrier
		if !behind {
			carryOut = t.holding
		}
		if err := engine.Interrupted(ctx, carryOut(ctx, phase)); err != nil {
			if behind {
				return t.open(err)
			}
			return t.failed(ctx, err)
		}
		if phase.Commit {
			if err := engine.Interrupted(ctx, t.holdAll(ctx, nil)); err != nil {
				return t.failed(ctx, err)
			}
			if err := engine.Interrupted(ctx, t.commit(ctx)); err != nil {
				if t.nobodyCommitted(ctx) {
					return t.failed(ctx, err)
				}
				return t.open(err)
			}
			behind = true
		}
	}
	_, err = t.close()
	return err
}

// mistake commits what the tests plant; see [Mistakes].
func (t *Transaction) mistake(ctx context.Context, phase JointPhase) error {
	f := t.Node.Mistakes
	switch {
	case f.CommitEarly && phase.Commit:
		return t.commit(ctx)
	case f.CloseEarly && phase == t.joint.behind()[0]:
		_, err := t.close()
		return err
	}
	return nil
}

// settled says whether all nodes are known to hold the commit record; if so, it tells each of them.
func (t *Transaction) settled(ctx context.Context) (bool, error) {
	states, err := t.states(ctx)
	if err != nil {
		return false, err
	}
	k := known{asked: states, mute: t.mute}
	if v, _ := k.decide(true); v != tooLate {
		return false, nil
	}
	// A node that has pruned its run had closed it.
	t.Peers = slices.DeleteFunc(t.Peers, func(p *Peer) bool {
		return !states[p.Name].Begun && p.Link.Close() == nil
	})
	return true, t.Each(ctx, func(ctx context.Context, p *Peer) error {
		if states[p.Name].Closed {
			return nil
		}
		return p.Ask(ctx, AskSettle, nil, nil, nil)
	})
}

func (t *Transaction) states(ctx context.Context) (map[string]partState, error) {
	states := map[string]partState{}
	for _, p := range t.Peers {
		s, err := Query[partState](ctx, p, askLoad, t.Run)
		if err != nil {
			return nil, err
		}
		states[p.Name] = s
	}
	return states, nil
}

// barrier lets all nodes carry out one phase, and checks the result before any of them goes on.
func (t *Transaction) barrier(ctx context.Context, phase JointPhase) error {
	skipped := slices.Contains(t.skip, phase.Name)
	if check := t.joint.Before[phase.Name]; check != nil {
		if err := check(ctx, t); err != nil {
			return err
		}
	}
	advance := func(ctx context.Context, p *Peer) error {
		if t.Node.OneByOne && phase.InTurn && !slices.Contains(t.joint.behind(), phase) {
			if err := t.holdAll(ctx, p); err != nil {
				return err
			}
		}
		return p.Ask(ctx, AskAdvance, advanceQuestion{Phase: phase.Name, Skip: skipped, Lost: t.lost}, nil, nil)
	}
	var err error
	if phase.InTurn {
		err = t.inTurn(ctx, t.Peers, advance)
	} else {
		err = t.Each(ctx, advance)
	}
	if check := t.joint.After[phase.Name]; err == nil && check != nil && !skipped {
		err = check(ctx, t)
	}
	return err
}

// commit is the commit point: it writes a record on every node, the coordinator's first, then tells
// each node that all of them hold it.
func (t *Transaction) commit(ctx context.Context) error {
	if t.Node.Mistakes.ReleaseEarly {
		if err := t.inTurn(ctx, t.Peers, func(ctx context.Context, p *Peer) error {
			return p.Ask(ctx, AskAdvance, advanceQuestion{Phase: t.joint.behind()[0].Name}, nil, nil)
		}); err != nil {
			return err
		}
	}
	for _, p := range slices.Concat(t.parted()) {
		if err := p.Ask(ctx, AskCommit, nil, nil, nil); err != nil {
			return err
		}
		if t.Node.Mistakes.SettleEarly {
			if err := p.Ask(ctx, AskSettle, nil, nil, nil); err != nil {
				return err
			}
		}
	}
	return t.Each(ctx, func(ctx context.Context, p *Peer) error { return p.Ask(ctx, AskSettle, nil, nil, nil) })
}

// nobodyCommitted says whether all nodes answered just now and none holds the commit record: then
// nothing is decided.
func (t *Transaction) nobodyCommitted(ctx context.Context) bool {
	states, err := t.states(context.WithoutCancel(ctx))
	if err != nil || len(t.mute) > 0 {
		return false
	}
	for _, s := range states {
		if s.Committed || s.Settled {
			return false
		}
	}
	return true
}

// parted returns the coordinator, if it can be asked, and the other nodes.
func (t *Transaction) parted() (coordinator, others []*Peer) {
	for _, p := range t.Peers {
		if p.Name == t.Cluster.Coordinator {
			coordinator = append(coordinator, p)
		} else {
			others = append(others, p)
		}
	}
	return coordinator, others
}

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
		again, err := t.Node.Meet(ctx, t.joint.Name, &t.Cluster, at, nil, false)
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
	if err := t.All(free, revert(last)); err != nil {
		return t.open(errors.Join(cause, err))
	}
	if len(free) > 0 {
		witness = free[0].Name
	}
	if err := t.All(bound, revert(last)); err != nil {
		return t.open(errors.Join(cause, err))
	}
	if err := t.All(slices.Concat(free, bound), revert(nil)); err != nil {
		return t.open(errors.Join(cause, err))
	}
	lacks, err := t.close()
	if err != nil {
		return err
	}
	return engine.WentBack(t.summary(), cause, lacks)
}

// close closes the run on all nodes, the coordinator last, so that `resume` on the coordinator
// settles all of them. While a node cannot be asked, the run stays open on all nodes. lacks says
// what does not serve on the nodes that went back.
func (t *Transaction) close() (lacks, err error) {
	if len(t.mute) > 0 {
		return nil, t.unasked(fmt.Errorf("%s could not be asked, and must be settled, too", strings.Join(t.mute, ", ")))
	}
	states, err := t.states(context.Background())
	if err != nil {
		return nil, t.open(err)
	}
	lacking := map[*Peer]*error{}
	for _, p := range t.Peers {
		lacking[p] = new(error)
	}
	end := func(p *Peer) error {
		if s := states[p.Name]; !s.Begun || s.Closed {
			return nil
		}
		c, err := Query[closed](context.Background(), p, AskClose, nil)
		*lacking[p] = c.on(p.Name)
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

// unasked leaves the run open because some nodes cannot be asked.
func (t *Transaction) unasked(cause error) error {
	return &engine.OpenRunError{Run: t.summary(), Cause: cause, Advice: t.advice()}
}

// advice says what to do about the nodes that cannot be asked: what cures that comes first, once
// for all that it cures; that they are lost last, and only of those that give no sign of life.
func (t *Transaction) advice() string {
	var kinds, cures, gone []string
	also := map[string][]string{}
	for _, name := range t.mute {
		kind, cure, alive := "silent", "mend the connection to "+name+", or start that node", false
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
	advice := strings.Join(append(cures, "then type the command again"), "; ")
	if len(gone) > 0 {
		advice += fmt.Sprintf("; only where the disk of a node is destroyed, add --lost %s", strings.Join(gone, ","))
	}
	return advice
}

// summary is the run as this node lists it, unless that would hang.
func (t *Transaction) summary() engine.RunSummary {
	if t.Node.here.hung.Load() {
		return engine.RunSummary{ID: t.Run, Workflow: t.joint.Name, Command: t.Node.Command}
	}
	runs, err := engine.RunsOf(t.Node.Host.FS)
	if err != nil {
		return engine.RunSummary{ID: t.Run}
	}
	for _, r := range runs {
		if r.ID == t.Run {
			return r
		}
	}
	return engine.RunSummary{ID: t.Run}
}
