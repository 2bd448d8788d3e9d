package phases

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
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// The exploration: the real coordinator and agents over simulated nodes. A state is what a power loss of everything but the disks leaves, and what runs: journals without
// times, data, manifests, containers. From each state that a restore with one fault leaves, every recovery command is typed, and each of the states in which that one could be
// cut off is looked at in its turn.

// key tells states apart.
func (c *cluster) key() uint64 {
	h := fnv.New64a()
	for _, name := range c.names {
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
	return c.worlds[name].machine.Digest(func(file string, data []byte) (string, []byte) {
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
		some.commit, some.settle, some.abort, some.end = some.commit || a.commit, some.settle || a.settle, some.abort || a.abort, some.end || a.end
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
}

func newExplorer() *explorer { return &explorer{seen: map[uint64]bool{}, ends: map[string]int{}} }

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
}

// watch runs a command, and returns the states in which its coordinator could be lost, and the one in which it ends.
func (e *explorer) watch(c *cluster, story string, second bool, command func() error) (states []state, err error) {
	if second {
		c.seen = func(now *cluster) {
			if f := e.found(now, story); f != nil {
				states = append(states, state{f, story + fmt.Sprintf("; lost at instant %d", now.instants)})
			}
		}
	}
	err = command()
	if f := e.found(c, story); f != nil {
		states = append(states, state{f, story})
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

// restores are the states that a restore with one fault leaves: its coordinator lost at any record, or any other node hit, at any record of its own and any message to or from it.
func (e *explorer) restores(make func() *cluster, hows []how) []state {
	c := make()
	states, err := e.watch(c, "restore", true, func() error { return c.restore(c.names[0]) })
	if err != nil {
		e.fail(err)
	}
	for _, s := range slices.Clone(states) { // the coordinator's power fails
		f := s.fork()
		f.worlds[c.names[0]].machine.Reboot(sim.DropUnsynced, nil)
		f.worlds[c.names[0]].machine.Revive()
		if f = e.found(f, s.story); f != nil {
			states = append(states, state{f, s.story + ", with its node's power"})
		}
	}
	var mu sync.Mutex
	parallel(e, e.misfortunes(c, hows), func(m misfortune) {
		c := make()
		c.fault = m
		more, err := e.watch(c, "restore with "+m.String(), false, func() error { return c.restore(c.names[0]) })
		if err == nil && !c.settled() {
			e.fail(fmt.Errorf("restore with %s: it ended well, and left something open", m))
		}
		mu.Lock()
		defer mu.Unlock()
		states = append(states, more...)
	})
	return states
}

// misfortunes are those that can befall the nodes but the coordinator's in a command like this one. Between two instants of its own nothing of a node changes.
func (e *explorer) misfortunes(c *cluster, hows []how) (all []misfortune) {
	for i, node := range c.whose {
		if node == c.at {
			continue
		}
		for _, how := range hows {
			if how == killed && !c.words[i] { // as the coordinator sees it, this is a reboot that loses nothing
				continue
			}
			all = append(all, misfortune{i + 1, node, how})
		}
	}
	return all
}

// orders are all commands that may be typed: on each node, with all others reached, one of them not, or none of them.
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
	if !committed && (o.back || !sent) || o.back && len(o.lost) > 0 {
		return "old"
	}
	return "new"
}

// has says whether a node has staged, or has what it needs to.
func (c *cluster) has(name string, a account) bool {
	m := c.worlds[name].machine
	return m.Peek("/backup/snapshot.db") != nil || m.Peek(journal.RunDir(a.id)+"/snapshot.db") != nil || m.Peek(journal.RunDir(a.id)+"/staged.json") != nil
}

// settles: one command that reaches all nodes leaves nothing open, whatever node it is typed on, unless nothing was open there.
func (e *explorer) settles(s state, o order) {
	c := s.fork()
	due := c.due(o)
	err := c.obey(o)
	e.mu.Lock()
	e.transitions++
	e.mu.Unlock()
	told := func(err error) { e.fail(fmt.Errorf("%s; then %s: %w", s.story, o, err)) }
	if wrong := c.judge(); wrong != nil {
		told(wrong)
		return
	}
	var refused *RefusedError
	if errors.As(err, &refused) { // nothing is open here, or it is too late to go back
		if o.back && !c.settled() && due == "old" && c.read(o.at).begun() && !c.read(o.at).end {
			told(err)
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
	for _, name := range c.names {
		fmt.Fprintln(h, c.read(name).coarse(), c.worlds[name].machine.Runs())
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

func threeNodes(t *testing.T) func() *cluster {
	return newCluster(t, "cp1", "cp2", "cp3").fork
}

// explore goes through everything, and returns what it found.
func explore(e *explorer, make func() *cluster, hows ...how) string {
	first := e.restores(make, hows)
	all := orders(first[0].names)
	reaching := slices.DeleteFunc(slices.Clone(all), func(o order) bool { return len(o.cut) > 0 })
	parallel(e, numbered(first), func(s numberedState) {
		e.settles(s.state, reaching[s.number%len(reaching)])
		e.settles(s.state, reaching[(s.number+1)%len(reaching)])
	})
	far := distinct(first)
	e.afar = true
	var mu sync.Mutex
	var second []state
	parallel(e, far, func(s state) {
		for _, o := range all {
			c := s.fork()
			more, _ := e.watch(c, s.story+"; "+o.String(), true, func() error { return c.obey(o) })
			mu.Lock()
			second = append(second, more...)
			mu.Unlock()
		}
	})
	parallel(e, numbered(second), func(s numberedState) {
		e.settles(s.state, reaching[s.number%len(reaching)])
	})
	return fmt.Sprintf("one fault leaves %d states (%d when only phases are looked at), two leave %d more; %d transitions; settled in the end: %d new, %d old", len(first), len(far), len(second), e.transitions, e.ends["new"], e.ends["old"])
}

type numberedState struct {
	state
	number int
}

func numbered(states []state) (all []numberedState) {
	for i, s := range states {
		all = append(all, numberedState{s, i})
	}
	return all
}

func TestEveryStateThatTwoFaultsLeaveIsSettled(t *testing.T) {
	e := newExplorer()
	found := explore(e, threeNodes(t), killed, rebooted, cutForLong)
	t.Log(found)
	if e.err != nil {
		t.Fatal(e.err)
	}
	if e.ends["new"] == 0 || e.ends["old"] == 0 {
		t.Error("the exploration proves nothing: all ended alike")
	}
}

// An exploration that cannot fail proves nothing: each of these mistakes, made on purpose in the protocol, must be found by it.
func TestTheExplorationCatchesMistakesInTheProtocol(t *testing.T) {
	mistakes := map[string]faults{
		"the commit record is written before the members were compared":            {commitEarly: true},
		"a node is settled before all hold the commit record":                      {settleEarly: true},
		"a node that holds the commit record goes back without knowing of another": {backUnwitnessed: true},
		"API servers are released before all hold the commit record":               {releaseEarly: true},
		"a node goes back before that is recorded":                                 {abortLate: true},
		"a run is closed before everything is released":                            {closeEarly: true},
		"the fence falls on one node before the old data is back on all":           {oneRound: true},
	}
	for name, mistake := range mistakes {
		t.Run(name, func(t *testing.T) {
			first := newCluster(t, "cp1", "cp2", "cp3")
			first.faults = mistake
			e := newExplorer()
			explore(e, first.fork) // the coordinator lost at any record is enough to find each
			if e.err == nil {
				t.Fatal("the exploration did not notice")
			}
			t.Logf("caught after %d transitions: %v", e.transitions, e.err)
		})
	}
}
