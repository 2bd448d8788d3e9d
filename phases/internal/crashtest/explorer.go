package crashtest

import (
	"errors"
	"fmt"
	"hash/fnv"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// The exploration: the real coordinator and agents on simulated nodes. A state is what is on the
// disks (journals without times, data, manifests) and which containers run. From each state that a
// run with one fault leaves, every recovery command is typed, and each state in which that command
// could be cut off is explored in turn.

// Explorer finds states, and knows which are new.
type Explorer struct {
	mu          sync.Mutex
	seen        map[uint64]bool
	transitions int
	Err         error          // the first error found
	Ends        map[string]int // how many settled states ended old, and how many new
	Afar        bool           // states that look alike from afar count as one

	struck  map[uint64]bool // instants at which a second fault struck, as they look from afar
	strikes int             // how many of them were carried out
	oneIn   uint64          // carry out one in so many

	// Of the commands that somebody may type after one fault, so many there were, so many were
	// carried out: one in so many.
	typeable, typed atomic.Int64
	typeOneIn       uint64

	every bool         // settle each state with every command
	turn  atomic.Int64 // otherwise with the commands in turn
}

// NewExplorer returns an explorer that has seen nothing yet.
func NewExplorer() *Explorer {
	return &Explorer{seen: map[uint64]bool{}, Ends: map[string]int{}, struck: map[uint64]bool{}, oneIn: 1,
		typeOneIn: 1}
}

// found returns a fork of a state that has not been seen before, else nil; afar: looked at from
// there.
func (e *Explorer) found(c *Cluster, how string, afar bool) *Cluster {
	look := c.Key
	if afar {
		look = c.Far
	}
	key := look()
	e.mu.Lock()
	e.transitions++
	known := e.seen[key]
	e.seen[key] = true
	e.mu.Unlock()
	if known {
		return nil
	}
	f := c.Fork()
	if err := f.Judge(); err != nil {
		e.fail(fmt.Errorf("%s: %w", how, err))
	}
	return f
}

func (e *Explorer) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.Err == nil {
		e.Err = err
	}
}

func (e *Explorer) failed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Err != nil
}

// State is a cluster on which no etcdpod runs, and how it came about.
type State struct {
	*Cluster
	Story string
	hit   string // the node that the first fault struck
}

// Watch runs a command, and returns the states in which its coordinator could be lost, and the one
// in which it ends.
func (e *Explorer) Watch(c *Cluster, story string, second bool, command func() error) (states []State, err error) {
	if second {
		c.Seen = e.lost(c, story, e.Afar, &states)
	}
	err = command()
	if f := e.found(c, story, e.Afar); f != nil {
		hit := c.At
		if c.hit.at > 0 {
			hit = c.hit.node
		}
		states = append(states, State{f, story, hit})
	}
	return states, err
}

// lost notes the states in which a command's coordinator could be lost, once the first fault has
// struck it.
func (e *Explorer) lost(c *Cluster, story string, afar bool, states *[]State) func(now *Cluster) {
	return func(now *Cluster) {
		if len(c.strikes) > 0 && c.hit.at == 0 {
			return // the first fault is still to come
		}
		if f := e.found(now, story, afar); f != nil {
			*states = append(*states, State{f, story + fmt.Sprintf("; lost at instant %d", now.Instants), now.At})
		}
	}
}

// parallel calls do for each item of a list, on all cores, until something is wrong.
func parallel[T any](e *Explorer, all []T, do func(T)) {
	next := make(chan T)
	var wg sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) { // coordinator and agents wait for each other
		wg.Go(func() {
			for x := range next {
				if !e.failed() {
					do(x)
				}
			}
		})
	}
	for _, x := range all {
		next <- x
	}
	close(next)
	wg.Wait()
}

// powerless returns the states with a power loss on a node in addition.
func (e *Explorer) powerless(states []State, node string) (more []State) {
	for _, s := range states {
		f := s.Fork()
		f.Nodes[node].Machine.Reboot(sim.DropUnsynced, nil)
		f.Nodes[node].Machine.Revive()
		if f = e.found(f, s.Story, e.Afar); f != nil {
			more = append(more, State{f, s.Story + ", with its node's power", node})
		}
	}
	return more
}

// Orders returns all commands that may be typed: on each node, with all others reachable, one of
// them not, or none of them.
func Orders(names []string) (all []Order) {
	for _, at := range names {
		others := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == at })
		for _, back := range []bool{false, true} {
			all = append(all, Order{Back: back, At: at}, Order{Back: back, At: at, Cut: others})
			for _, one := range others {
				all = append(all, Order{Back: back, At: at, Cut: []string{one}})
			}
		}
	}
	return all
}

// due is how a command that reaches all nodes must end, judging by the records alone.
func (c *Cluster) due(o Order) string {
	committed, able := true, true
	for _, name := range c.Alive() {
		switch a := c.Read(name); {
		case a.Settle:
			return "new"
		case !a.Begun() || a.Abort:
			return "old"
		case !a.Commit:
			committed = false
			able = able && (name != o.At || !c.lacks(name))
		}
	}
	if !committed && (o.Back || !able || c.work.Futile != nil && c.work.Futile(c)) {
		return "old"
	}
	return "new"
}

func (c *Cluster) lacks(name string) bool { return c.work.Lacks != nil && c.work.Lacks(c, name) }

// Settles checks that one command that reaches all nodes leaves nothing open, whichever node it is
// typed on, unless nothing was open there.
func (e *Explorer) Settles(s State, o Order) {
	c := s.Fork()
	due := c.due(o)
	before := c.Far()
	err := c.Obey(o)
	e.mu.Lock()
	e.transitions++
	e.mu.Unlock()
	told := func(err error) { e.fail(fmt.Errorf("%s; then %s: %w", s.Story, o, err)) }
	if wrong := c.Judge(); wrong != nil {
		told(wrong)
		return
	}
	var refused *engine.RefusedError
	if errors.As(err, &refused) { // nothing is open here, or it is too late to roll back
		if o.Back && !c.Settled() && due == "old" && c.Read(o.At).Begun() && !c.Read(o.At).End {
			told(err)
		}
		if c.Far() != before {
			told(fmt.Errorf("it was refused (%w), and changed something", err))
		}
		return
	}
	outcome, wrong := c.Verdict()
	switch {
	case wrong != nil:
		told(errors.Join(wrong, err))
	case !c.Settled():
		told(fmt.Errorf("it ended (%w), and left something open", err))
	case outcome != due:
		told(fmt.Errorf("by the records it was to end %s, and it ended %s: %w", due, outcome, err))
	}
	e.mu.Lock()
	e.Ends[outcome]++
	e.mu.Unlock()
}

// Far identifies a state by how far each phase got on each node, and by what is running there.
func (c *Cluster) Far() uint64 {
	h := fnv.New64a()
	for _, name := range c.Alive() {
		if _, known := c.coarse[name]; !known {
			c.coarse[name] = c.Read(name).Coarse()
		}
		fmt.Fprintln(h, name, c.coarse[name], c.Nodes[name].Machine.Runs())
	}
	return h.Sum64()
}

// distinct keeps one of the states that look alike from afar.
func distinct(states []State) []State {
	seen := map[uint64]bool{}
	return slices.DeleteFunc(slices.Clone(states), func(s State) bool {
		key := s.Far()
		known := seen[key]
		seen[key] = true
		return known
	})
}
