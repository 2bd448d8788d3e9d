package together

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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
	return n.meet(ctx, c, at, part, HelloQuestion{Workflow: workflow, Reading: reading})
}

// meetAgain is Meet for a run that is taken up.
func (t *Transaction) meetAgain(ctx context.Context, at journal.Peer, part *Participant, reading bool) (*Peer, error) {
	return t.Node.meet(ctx, &t.Cluster, at, part, HelloQuestion{Workflow: t.joint.Name, Reading: reading, Run: t.Run})
}

func (n *Node) meet(
	ctx context.Context, c *journal.Cluster, at journal.Peer, part *Participant, q HelloQuestion,
) (*Peer, error) {
	p := &Peer{Name: at.Name, Here: part != nil}
	if p.Here {
		p.Link = local(part)
	}
	q.Protocol, q.Version, q.Command = Protocol, n.Version, n.Command
	hello, err := n.greet(ctx, c, at, p, q)
	if err != nil {
		if p.Link != nil {
			err = errors.Join(err, p.Link.Close())
		}
		return nil, err
	}
	if hello.Node != at.Name {
		return nil, errors.Join(engine.Refuse("give each node as NAME=HOST, with its name in kubeadm",
			"host %s is node %s, not %s", at.Host, hello.Node, at.Name), p.Link.Close())
	}
	return p, nil
}

// Mute says whether a node cannot be asked, and is not declared destroyed.
func (t *Transaction) Mute(name string) bool { return slices.Contains(t.mute, name) }

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
			if err := engine.Interrupted(ctx, cmp.Or(t.holdAll(ctx, nil), ctx.Err())); err != nil {
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
