package phases

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// transaction drives one run on several nodes, from whatever each of them has got to, to one end. Each phase is a barrier: no node begins the next one
// before all have ended this one. It holds nothing that the journals do not hold: whoever opens it anew, on any of the nodes, goes on with it.
type transaction struct {
	node    *togetherNode
	joint   Joint
	run     string
	cluster journal.Cluster
	peers   []*peer  // those that can be asked, in the cluster's order
	mute    []string // those that cannot
	lost    []string // those that are declared destroyed
	skip    []string // phases whose waiting is left out
}

// peer is one node of a transaction, as it is seen from here.
type peer struct {
	name string
	link link
	here bool // this very node
}

// ask puts a question to the node. An error says on which node it arose; what an agent says, says so already.
func (p *peer) ask(ctx context.Context, question string, with, answer any, b *body) error {
	err := p.link.ask(ctx, question, with, answer, b)
	if err != nil && p.here {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return err
}

func query[T any](ctx context.Context, p *peer, question string, with any) (answer T, err error) {
	err = p.ask(ctx, question, with, &answer, nil)
	return answer, err
}

// meet opens a link to one node and greets it.
func (n *togetherNode) meet(ctx context.Context, workflow string, c *journal.Cluster, at journal.Peer, part *participant, reading bool) (*peer, error) {
	p := &peer{name: at.Name, here: part != nil}
	if part != nil {
		p.link = localLink{part}
	} else {
		conn, err := n.Connect(c, at)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at.Name, err)
		}
		beat := heartbeat
		if n.OneByOne {
			beat = 0
		}
		p.link = newRemoteLink(at.Name, conn, n.Emit, beat)
	}
	hello, err := query[helloAnswer](ctx, p, askHello, helloQuestion{Protocol: protocol, Version: n.Version, Workflow: workflow, Reading: reading})
	if err != nil {
		return nil, errors.Join(err, p.link.close())
	}
	if hello.Node != at.Name {
		return nil, errors.Join(refuse("give each node as NAME=HOST, with the name that kubeadm gave it", "the host %s is the node %s, and not %s", at.Host, hello.Node, at.Name), p.link.close())
	}
	return p, nil
}

func (t *transaction) leave() {
	for _, p := range t.peers {
		_ = p.link.close() // an agent that does not end by itself holds its node's lock, and is named when somebody wants it
	}
}

// each lets all nodes do something at once, and returns what went wrong on any of them. The first failure tells the others to stop.
func (t *transaction) each(ctx context.Context, do func(context.Context, *peer) error) error {
	return t.eachOf(ctx, t.peers, do)
}

func (t *transaction) eachOf(ctx context.Context, peers []*peer, do func(context.Context, *peer) error) error {
	if t.node.OneByOne {
		return t.inTurn(ctx, peers, do)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var first sync.Once
	var cause error
	var wg sync.WaitGroup
	for _, p := range peers {
		wg.Go(func() {
			if err := do(ctx, p); err != nil {
				first.Do(func() { cause = err }) // what the others say then is that they were told to stop
				stop()
			}
		})
	}
	wg.Wait()
	return cause
}

func (t *transaction) inTurn(ctx context.Context, peers []*peer, do func(context.Context, *peer) error) error {
	for _, p := range peers {
		if err := do(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// all does something on every node whatever goes wrong on others, and returns all that did.
func (t *transaction) all(peers []*peer, do func(*peer) error) error {
	errs := make([]error, len(peers))
	if t.node.OneByOne {
		for i, p := range peers {
			errs[i] = do(p)
		}
		return errors.Join(errs...)
	}
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() { errs[i] = do(p) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// forward carries out what is left. Before the commit point a failure takes all nodes back.
func (t *transaction) forward(ctx context.Context) error {
	settled, err := t.settled(ctx)
	if err != nil {
		return t.open(err)
	}
	behind := false
	for _, phase := range t.joint.Phases {
		if !behind && settled { // the first part is done on all
			behind = phase.Commit
			continue
		}
		if err := t.mistake(ctx, phase); err != nil {
			return t.open(err)
		}
		if err := t.barrier(ctx, phase); err != nil {
			if behind {
				return t.open(err)
			}
			return t.failed(ctx, err)
		}
		if phase.Commit {
			if err := t.commit(ctx); err != nil {
				if t.nobodyCommitted(ctx) {
					return t.failed(ctx, err)
				}
				return t.open(err)
			}
			behind = true
		}
	}
	return t.close()
}

// mistake makes what the tests plant; see [protocolMistakes].
func (t *transaction) mistake(ctx context.Context, phase JointPhase) error {
	f := t.node.mistakes
	switch {
	case f.CommitEarly && phase.Commit:
		return t.commit(ctx)
	case f.CloseEarly && phase == t.joint.behind()[1]:
		return t.close()
	}
	return nil
}

// settled says whether a node knows already that all hold the commit record; then all are told.
func (t *transaction) settled(ctx context.Context) (bool, error) {
	states, err := t.states(ctx)
	if err != nil {
		return false, err
	}
	k := known{asked: states, mute: t.mute}
	if v, _ := k.decide(true); v != tooLate {
		return false, nil
	}
	t.peers = slices.DeleteFunc(t.peers, func(p *peer) bool { // one that has pruned its run had closed it
		return !states[p.name].Begun && p.link.close() == nil
	})
	return true, t.each(ctx, func(ctx context.Context, p *peer) error {
		if states[p.name].Closed {
			return nil
		}
		return p.ask(ctx, askSettle, nil, nil, nil)
	})
}

func (t *transaction) states(ctx context.Context) (map[string]partState, error) {
	states := map[string]partState{}
	for _, p := range t.peers {
		s, err := query[partState](ctx, p, askLoad, t.run)
		if err != nil {
			return nil, err
		}
		states[p.name] = s
	}
	return states, nil
}

// barrier lets all nodes carry out one phase, and looks at what came out before any of them goes on.
func (t *transaction) barrier(ctx context.Context, phase JointPhase) error {
	skipped := slices.Contains(t.skip, phase.Name)
	if check := t.joint.Before[phase.Name]; check != nil {
		if err := check(ctx, t); err != nil {
			return err
		}
	}
	advance := func(ctx context.Context, p *peer) error {
		return p.ask(ctx, askAdvance, advanceQuestion{Phase: phase.Name, Skip: skipped}, nil, nil)
	}
	var err error
	if phase.InTurn {
		err = t.inTurn(ctx, t.peers, advance)
	} else {
		err = t.each(ctx, advance)
	}
	if check := t.joint.After[phase.Name]; err == nil && check != nil && !skipped {
		err = check(ctx, t)
	}
	return err
}

// commit is the commit point: a record on every node, the coordinator's first; then each is told that all have it.
func (t *transaction) commit(ctx context.Context) error {
	if t.node.mistakes.ReleaseEarly {
		if err := t.inTurn(ctx, t.peers, func(ctx context.Context, p *peer) error {
			return p.ask(ctx, askAdvance, advanceQuestion{Phase: t.joint.behind()[0].Name}, nil, nil)
		}); err != nil {
			return err
		}
	}
	for _, p := range slices.Concat(t.parted()) {
		if err := p.ask(ctx, askCommit, nil, nil, nil); err != nil {
			return err
		}
		if t.node.mistakes.SettleEarly {
			if err := p.ask(ctx, askSettle, nil, nil, nil); err != nil {
				return err
			}
		}
	}
	return t.each(ctx, func(ctx context.Context, p *peer) error { return p.ask(ctx, askSettle, nil, nil, nil) })
}

// nobodyCommitted says whether all nodes were asked just now and none holds the commit record: then nothing is decided.
func (t *transaction) nobodyCommitted(ctx context.Context) bool {
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

// parted returns the coordinator, where it can be asked, and the other nodes.
func (t *transaction) parted() (coordinator, others []*peer) {
	for _, p := range t.peers {
		if p.name == t.cluster.Coordinator {
			coordinator = append(coordinator, p)
		} else {
			others = append(others, p)
		}
	}
	return coordinator, others
}

// failed takes all nodes back. No node holds the commit record.
func (t *transaction) failed(ctx context.Context, cause error) error {
	ctx = context.WithoutCancel(ctx)
	t.reconnect(ctx)
	states, err := t.states(ctx)
	if err != nil {
		return t.open(errors.Join(cause, err))
	}
	return t.back(ctx, states, cause, "")
}

// reconnect tries once to reach the nodes whose connection was lost.
func (t *transaction) reconnect(ctx context.Context) {
	var still []*peer
	for _, p := range t.peers {
		if _, err := query[partState](ctx, p, askLoad, t.run); err == nil {
			still = append(still, p)
			continue
		}
		_ = p.link.close() // it is replaced
		at, _ := peerNamed(&t.cluster, p.name)
		again, err := t.node.meet(ctx, t.joint.Name, &t.cluster, at, nil, false)
		if p.here || err != nil {
			t.mute = append(t.mute, p.name)
			continue
		}
		still = append(still, again)
	}
	t.peers = still
}

// back takes all nodes back that can be asked: first those that do not hold the commit record, and whose record of going back is the witness for the others. The old data is in
// its place on all of them before the fence falls on any: an API server may use the etcds of other nodes.
func (t *transaction) back(ctx context.Context, states map[string]partState, cause error, witness string) error {
	var free, bound []*peer
	for _, p := range t.peers {
		switch s := states[p.name]; {
		case !s.Begun:
			witness = p.name
		case s.Committed && !s.Aborted:
			bound = append(bound, p)
		default:
			free = append(free, p)
		}
	}
	revert := func(stay []string) func(*peer) error {
		return func(p *peer) error {
			return p.ask(ctx, askBack, backQuestion{Cause: cause.Error(), Witness: witness, Stay: stay}, nil, nil)
		}
	}
	last := t.joint.Last
	if t.node.mistakes.OneRound {
		last = nil
	}
	if err := t.all(free, revert(last)); err != nil {
		return t.open(errors.Join(cause, err))
	}
	if len(free) > 0 {
		witness = free[0].name
	}
	if err := t.all(bound, revert(last)); err != nil {
		return t.open(errors.Join(cause, err))
	}
	if err := t.all(slices.Concat(free, bound), revert(nil)); err != nil {
		return t.open(errors.Join(cause, err))
	}
	if err := t.close(); err != nil {
		return err
	}
	return &RolledBackError{Run: t.summary(), Cause: cause}
}

// close closes the run on all nodes, on the coordinator last: so whoever types `resume` there settles all. While a node cannot be asked, it stays open on all.
func (t *transaction) close() error {
	if len(t.mute) > 0 {
		return t.unasked(fmt.Errorf("%s could not be asked, and must be settled, too", strings.Join(t.mute, ", ")))
	}
	states, err := t.states(context.Background())
	if err != nil {
		return t.open(err)
	}
	end := func(p *peer) error {
		if s := states[p.name]; !s.Begun || s.Closed {
			return nil
		}
		return p.ask(context.Background(), askClose, nil, nil, nil)
	}
	coordinator, others := t.parted()
	for _, peers := range [][]*peer{others, coordinator} {
		if err := t.all(peers, end); err != nil {
			return t.open(err)
		}
	}
	return nil
}

func (t *transaction) open(cause error) error {
	open := &OpenRunError{Run: t.summary(), Cause: cause}
	if t.joint.Advice != nil {
		open.Advice = t.joint.Advice(cause)
	}
	return open
}

// unasked leaves the run open because of nodes that cannot be asked.
func (t *transaction) unasked(cause error) error {
	return &OpenRunError{Run: t.summary(), Cause: cause, Advice: "mend the connection, or start the node, and type the command again; a node that is destroyed is named with --lost"}
}

// summary is this node's own account of the run.
func (t *transaction) summary() RunSummary {
	runs, err := runsOf(t.node.Host.FS)
	if err != nil {
		return RunSummary{ID: t.run}
	}
	for _, r := range runs {
		if r.ID == t.run {
			return r
		}
	}
	return RunSummary{ID: t.run}
}
