package together

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// While one node works, the others wait, for minutes if there is much data. In that time somebody
// else, a configuration management say, may put back on one of them what the run has taken out. So
// all nodes are asked again and again, until the commit point, to prove their fence.

// holdEvery is shorter than an API server takes to serve.
const holdEvery = time.Second

// holding carries out a phase before the commit point, and meanwhile keeps the fences of the nodes
// that are not busy. In tests nodes act one after another, and the barrier itself asks.
func (t *Transaction) holding(ctx context.Context, phase JointPhase) error {
	if t.Node.OneByOne {
		return t.barrier(ctx, phase)
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	var broken error
	var keeper sync.WaitGroup
	keeper.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(holdEvery):
			}
			if broken = engine.Guarded(func() error { return t.holdIdle(ctx) }); broken != nil {
				stop() // the phase ends, and all go back
				return
			}
		}
	})
	err := t.barrier(ctx, phase)
	close(done)
	keeper.Wait()
	stop()
	if broken != nil {
		return broken
	}
	return err
}

// holdIdle asks the nodes that have nothing else to answer.
func (t *Transaction) holdIdle(ctx context.Context) error {
	return t.eachOf(ctx, t.Peers, func(ctx context.Context, p *Peer) error {
		if !p.asking.TryLock() {
			return nil
		}
		defer p.asking.Unlock()
		if ctx.Err() != nil {
			return nil
		}
		return t.told(ctx, p.ask(ctx, askHold, nil, nil, nil))
	})
}

// told leaves out that the phase has been cancelled: why is said elsewhere.
func (t *Transaction) told(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// holdAll asks all nodes except one, and waits for them.
func (t *Transaction) holdAll(ctx context.Context, but *Peer) error {
	return t.Each(ctx, func(ctx context.Context, p *Peer) error {
		if p == but {
			return nil
		}
		if err := p.Ask(ctx, askHold, nil, nil, nil); err != nil {
			return fmt.Errorf("the fence is broken: %w", err)
		}
		return nil
	})
}

// GiveUp is what a person has agreed to: going back may give up what clients have written.
func (n *Node) GiveUp(agreed bool) { n.giveUp = agreed }

// keepsPromises refuses to go back, or leaves the run open, if that would give up what clients have
// written to the new data on any of the nodes.
func (t *Transaction) keepsPromises(ctx context.Context, states map[string]partState, cause error) error {
	if t.Node.giveUp {
		return nil
	}
	run := t.summary()
	for _, s := range states {
		run.Aborted = run.Aborted || s.Aborted
	}
	var lost *op.GivenUpError
	for _, p := range t.Peers {
		if !states[p.Name].Begun {
			continue
		}
		theirs, err := Query[*op.GivenUpError](ctx, p, askPromised, nil)
		if err != nil {
			return t.open(fmt.Errorf("cannot tell whether clients have written to the new data: %w", err))
		}
		if theirs != nil && (lost == nil || lost.Unknown != "") { // a count says more
			theirs.Kept += " on " + p.Name
			lost = theirs
		}
	}
	return engine.KeepsPromises(run, cause, lost)
}
