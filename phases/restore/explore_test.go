package restore

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// The exploration: the real coordinator and agents over simulated nodes. A state is what a power
// loss of everything but the disks leaves, and what runs: journals without times, data, manifests,
// containers. From each state that a restore with one fault leaves, every recovery command is
// typed, and each of the states in which that one could be cut off is looked at in its turn.

// key tells states apart.
func (c *cluster) key() uint64 {
	h := fnv.New64a()
	for _, name := range c.alive() {
		if _, ok := c.digests[name]; !ok {
			c.digests[name] = c.digest(name)
		}
		fmt.Fprintln(h, c.digests[name])
	}
	return h.Sum64()
}

func (c *cluster) digest(name string) uint64 {
	a := c.read(name)
	ran := []byte(a.id)
	if len(ran) == 0 {
		ran = []byte("no run")
	}
	return c.worlds[name].Machine.Digest(func(file string, data []byte) (string, []byte) {
		switch {
		case file == journal.Home+"/lock":
			return "", nil
		case path.Base(file) == "journal":
			data = fmt.Append(nil, a)
		case strings.HasPrefix(file, "/etc/"):
			data = nil // the same whenever they are there
		}
		return strings.Replace(file, a.id, "RUN", 1), bytes.ReplaceAll(data, ran, []byte("RUN"))
	})
}

// judge holds a state to what the protocol rests on.
func (c *cluster) judge() error {
	if err := c.err(); err != nil {
		return err
	}
	all := map[string]account{}
	some := account{}
	for _, name := range c.alive() {
		a := c.read(name)
		all[name] = a
		some.commit, some.settle, some.abort, some.end = some.commit || a.commit,
			some.settle || a.settle, some.abort || a.abort, some.end || a.end
	}
	for name, a := range all {
		switch {
		case strings.ContainsAny(a.steps, "un") && !a.abort:
			return fmt.Errorf("%s undoes, and has not recorded that it goes back", name)
		case some.commit && !a.abort && (!a.begun() || strings.Trim(a.steps[:a.commitAt], "f") != ""):
			return fmt.Errorf("a node holds the commit record, and %s has not got that far", name)
		case some.settle && (!a.commit || a.abort):
			return fmt.Errorf("a node is settled, and %s does not hold the commit record, or goes back", name)
		case some.end && !a.reverted() && !(a.settle && a.done()):
			return fmt.Errorf("a run is closed, and %s is neither wholly done nor wholly back: %+v", name, a)
		}
	}
	return nil
}

// settled says whether nothing is open any more on any node.
func (c *cluster) settled() bool {
	return !slices.ContainsFunc(c.alive(), func(name string) bool { a := c.read(name); return a.begun() && !a.end })
}

// explorer finds states, and tells which are new.
type explorer struct {
	mu          sync.Mutex
	seen        map[uint64]bool
	transitions int
	err         error
	ends        map[string]int
	afar        bool // states that look alike from afar count as one

	struck  map[uint64]bool // instants at which a second fault struck, as they look from afar
	strikes int             // of them, those that were carried out
	oneIn   uint64          // which part of them is

	every bool         // each state is settled by every command
	turn  atomic.Int64 // else by one after another
}

func newExplorer() *explorer {
	return &explorer{seen: map[uint64]bool{}, ends: map[string]int{}, struck: map[uint64]bool{}, oneIn: 1}
}

// found returns a fork of a state that was not seen before, else nil.
func (e *explorer) found(c *cluster, how string) *cluster {
	key := c.key()
	if e.afar {
		key = c.far()
	}
	e.mu.Lock()
	e.transitions++
	known := e.seen[key]
	e.seen[key] = true
	e.mu.Unlock()
	if known {
		return nil
	}
	f := c.fork()
	if err := f.judge(); err != nil {
		e.fail(fmt.Errorf("%s: %w", how, err))
	}
	return f
}

func (e *explorer) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = err
	}
}

func (e *explorer) failed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err != nil
}

// state is a cluster on which nothing runs, and how it came to be.
type state struct {
	*cluster
	story string
	hit   string // the node that the first fault befell
}

// watch runs a command, and returns the states in which its coordinator could be lost, and the
// one in which it ends.
func (e *explorer) watch(c *cluster, story string, second bool, command func() error) (states []state, err error) {
	if second {
		c.seen = func(now *cluster) {
			if len(c.strikes) > 0 && c.hit.at == 0 {
				return // the first fault is still to come
			}
			if f := e.found(now, story); f != nil {
				states = append(states, state{f, story + fmt.Sprintf("; lost at instant %d", now.instants), now.at})
			}
		}
	}
	err = command()
	if f := e.found(c, story); f != nil {
		hit := c.at
		if c.hit.at > 0 {
			hit = c.hit.node
		}
		states = append(states, state{f, story, hit})
	}
	return states, err
}

// parallel does something with all of a list on all cores, until something is wrong.
func parallel[T any](e *explorer, all []T, do func(T)) {
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

// powerless are those in which a node's power fails besides.
func (e *explorer) powerless(states []state, node string) (more []state) {
	for _, s := range states {
		f := s.fork()
		f.worlds[node].Machine.Reboot(sim.DropUnsynced, nil)
		f.worlds[node].Machine.Revive()
		if f = e.found(f, s.story); f != nil {
			more = append(more, state{f, s.story + ", with its node's power", node})
		}
	}
	return more
}

// orders are all commands that may be typed: on each node, with all others reached, one of them
// not, or none of them.
func orders(names []string) (all []order) {
	for _, at := range names {
		others := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == at })
		for _, back := range []bool{false, true} {
			all = append(all, order{back: back, at: at}, order{back: back, at: at, cut: others})
			for _, one := range others {
				all = append(all, order{back: back, at: at, cut: []string{one}})
			}
		}
	}
	return all
}

// due is how a command must end that reaches all nodes, by the records alone.
func (c *cluster) due(o order) string {
	committed, sent := true, true
	for _, name := range c.alive() {
		switch a := c.read(name); {
		case a.settle:
			return "new"
		case !a.begun() || a.abort:
			return "old"
		case !a.commit:
			committed = false
			sent = sent && (name != o.at || c.has(name, a))
		}
	}
	if !committed && (o.back || !sent) {
		return "old"
	}
	return "new"
}

// has says whether a node has staged, or has what it needs to.
func (c *cluster) has(name string, a account) bool {
	m := c.worlds[name].Machine
	return m.Peek("/backup/snapshot.db") != nil || m.Peek(journal.RunDir(a.id)+"/snapshot.db") != nil ||
		m.Peek(journal.RunDir(a.id)+"/staged.json") != nil
}

// settles: one command that reaches all nodes leaves nothing open, whatever node it is typed on,
// unless nothing was open there.
func (e *explorer) settles(s state, o order) {
	c := s.fork()
	due := c.due(o)
	before := c.far()
	err := c.obey(o)
	e.mu.Lock()
	e.transitions++
	e.mu.Unlock()
	told := func(err error) { e.fail(fmt.Errorf("%s; then %s: %w", s.story, o, err)) }
	if wrong := c.judge(); wrong != nil {
		told(wrong)
		return
	}
	var refused *engine.RefusedError
	if errors.As(err, &refused) { // nothing is open here, or it is too late to go back
		if o.back && !c.settled() && due == "old" && c.read(o.at).begun() && !c.read(o.at).end {
			told(err)
		}
		if c.far() != before {
			told(fmt.Errorf("it was refused (%w), and changed something", err))
		}
		return
	}
	outcome, wrong := c.verdict()
	switch {
	case wrong != nil:
		told(fmt.Errorf("%w (%v)", wrong, err))
	case !c.settled():
		told(fmt.Errorf("it ended (%w), and left something open", err))
	case outcome != due:
		told(fmt.Errorf("by the records it was to end %s, and it ended %s: %w", due, outcome, err))
	}
	e.mu.Lock()
	e.ends[outcome]++
	e.mu.Unlock()
}

// far tells states apart by how far each phase got on each node, and by what runs there.
func (c *cluster) far() uint64 {
	h := fnv.New64a()
	for _, name := range c.alive() {
		if _, known := c.coarse[name]; !known {
			c.coarse[name] = c.read(name).coarse()
		}
		fmt.Fprintln(h, name, c.coarse[name], c.worlds[name].Machine.Runs())
	}
	return h.Sum64()
}

// distinct leaves one state of those that look alike from afar.
func distinct(states []state) []state {
	seen := map[uint64]bool{}
	return slices.DeleteFunc(slices.Clone(states), func(s state) bool {
		key := s.far()
		known := seen[key]
		seen[key] = true
		return known
	})
}

// An exploration that cannot fail proves nothing: each of these mistakes, made on purpose in the
// protocol, must be found by it.
func TestTheExplorationCatchesMistakesInTheProtocol(t *testing.T) {
	mistakes := map[string]func(*cluster){
		"the commit record is written before the members were compared": func(c *cluster) {
			c.mistakes.CommitEarly = true
		},
		"a node is settled before all hold the commit record": func(c *cluster) {
			c.mistakes.SettleEarly = true
		},
		"a node that holds the commit record goes back without knowing of another": func(c *cluster) {
			c.mistakes.BackUnwitnessed = true
		},
		"API servers are released before all hold the commit record": func(c *cluster) {
			c.mistakes.ReleaseEarly = true
		},
		"a node goes back before that is recorded": func(c *cluster) { c.late = true },
		"a run is closed before everything is released": func(c *cluster) {
			c.mistakes.CloseEarly = true
		},
		"the fence falls on one node before the old data is back on all": func(c *cluster) {
			c.mistakes.OneRound = true
		},
	}
	for name, mistake := range mistakes {
		t.Run(name, func(t *testing.T) {
			first := newCluster(t, "cp1", "cp2", "cp3")
			mistake(first)
			e := newExplorer()
			explore(e, first.fork) // the coordinator lost at any record is enough to find each
			if e.err == nil {
				t.Fatal("the exploration did not notice")
			}
			t.Logf("caught after %d transitions: %v", e.transitions, e.err)
		})
	}
}
