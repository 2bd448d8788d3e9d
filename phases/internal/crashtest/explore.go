package crashtest

import (
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"sync/atomic"
)

// The whole exploration: a workflow on several nodes, up to two faults, and the commands that
// settle what they leave.
//
//   - The first fault strikes the run: its coordinator is lost at a record, with or without its
//     node's power; or any other node is killed, rebooted or cut off, once or for long, at any
//     instant of its own.
//   - The second fault strikes what the coordinator does after the first, or any command that
//     somebody types then, on any node, with all other nodes reachable, or one of them not, or
//     none, or with the node of the first fault destroyed. The coordinator of that command is lost,
//     or another node is struck, again at any instant.
//   - After two faults, every command that reaches all remaining nodes settles everything, or is
//     refused and changes nothing: so every order of commands settles it.
//
// States, and instants for the second fault, that look alike from afar count as one: how far each
// phase got on each node (not at all, in part, wholly; done or undone), what is running there, what
// is being said or written, in which command. A coordinator remembers nothing else that is not in
// the journals.

// attempt is a run that the first fault struck, the instants after it, and the states in which its
// coordinator could be lost from then on.
type attempt struct {
	first misfortune
	after []mark
	later []State
}

// runs returns the states that a run with one fault leaves.
func (e *Explorer) runs(make func() *Cluster, hows []how) (states []State, attempts []attempt) {
	c := make()
	states, err := e.Watch(c, c.work.Name, true, func() error { return c.Run(c.Names[0]) })
	if err != nil {
		e.fail(err)
	}
	states = append(states, e.powerless(states, c.Names[0])...)
	var mu sync.Mutex
	parallel(e, e.misfortunes(c, hows), func(m misfortune) {
		c := make()
		c.strikes = []misfortune{m}
		a := attempt{first: m}
		c.marks = func(m mark) { a.after = append(a.after, m) }
		story := a.story(c)
		c.Seen = e.lost(c, story, true, &a.later)
		more, err := e.Watch(c, story, false, func() error { return c.Run(c.Names[0]) })
		if err == nil && !c.Settled() {
			e.fail(fmt.Errorf("%s: it ended well, and left something open", story))
		}
		if f := e.found(c, story, true); f != nil {
			a.later = append(a.later, State{f, story, m.node})
		}
		a.after = slices.DeleteFunc(a.after, func(later mark) bool { return later.at <= m.at })
		mu.Lock()
		defer mu.Unlock()
		states, attempts = append(states, more...), append(attempts, a)
	})
	return states, attempts
}

func (a attempt) story(c *Cluster) string { return c.work.Name + " with " + a.first.String() }

// misfortunes returns what can strike nodes other than the coordinator's in a command like this
// one. Between two instants of a node nothing on it changes.
func (e *Explorer) misfortunes(c *Cluster, hows []how) (all []misfortune) {
	for i, node := range c.whose {
		if node == c.At {
			continue
		}
		for _, how := range hows {
			if c.words[i] || !onlyOnWords(how) {
				all = append(all, misfortune{i + 1, node, how})
			}
		}
	}
	return all
}

// onlyOnWords says whether a fault strikes only at messages. At a record, a kill leaves the
// coordinator with the same as a reboot that loses nothing, and a lost connection with the same as
// one that stays cut.
func onlyOnWords(h how) bool { return h == killed || h == cutOnce }

// again repeats a command for each instant of another node that looks unlike all before it, and
// lets the second fault strike there.
func (e *Explorer) again(
	a attempt, story string, command func([]misfortune) (*Cluster, func() error), hows []how,
) (states []State) {
	for _, m := range a.after {
		for _, how := range hows {
			if onlyOnWords(how) && !m.word || !e.fresh(m.look, how) {
				continue
			}
			second := misfortune{m.at, m.node, how}
			strikes := []misfortune{second}
			if a.first.at > 0 {
				strikes = []misfortune{a.first, second}
			}
			c, run := command(strikes)
			more, _ := e.Watch(c, story+", and "+second.String(), false, run)
			states = append(states, more...)
		}
	}
	return states
}

// fresh says whether nothing was struck like this before, and this strike is in the part that is
// explored.
func (e *Explorer) fresh(look uint64, how how) bool {
	h := fnv.New64a()
	fmt.Fprint(h, look, how)
	key := h.Sum64()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.struck[key] || e.Err != nil {
		return false
	}
	e.struck[key] = true
	if key%e.oneIn != 0 {
		return false
	}
	e.strikes++
	return true
}

// twice settles the states left by runs that two faults strike, and counts them.
func (e *Explorer) twice(make func() *Cluster, attempts []attempt, hows []how) int {
	return settled(e, attempts, func(a attempt) []State {
		first := make()
		states := append(slices.Clone(a.later), e.powerless(a.later, first.Names[0])...)
		a.after = slices.DeleteFunc(a.after, func(m mark) bool { return m.node == first.Names[0] })
		return append(states, e.again(a, a.story(first), func(strikes []misfortune) (*Cluster, func() error) {
			c := make()
			c.strikes = strikes
			return c, func() error { return c.Run(c.Names[0]) }
		}, hows)...)
	})
}

// recoveries settles the states left by commands typed after one fault, with or without a second
// fault in the command, and counts them.
func (e *Explorer) recoveries(far []State, hows []how) int {
	return settled(e, far, func(s State) (states []State) {
		for _, o := range Orders(s.Alive()) {
			o.Lost = s.Gone
			story := s.Story + "; " + o.String()
			if e.typeable.Add(1); !chosen(e.typeOneIn, story) {
				continue
			}
			e.typed.Add(1)
			c := s.Fork()
			var a attempt
			c.marks = func(m mark) {
				if m.node != o.At {
					a.after = append(a.after, m)
				}
			}
			more, _ := e.Watch(c, story, true, func() error { return c.Obey(o) })
			states = append(states, more...)
			states = append(states, e.powerless(more, o.At)...)
			states = append(states, e.again(a, story, func(strikes []misfortune) (*Cluster, func() error) {
				c := s.Fork()
				c.strikes = strikes
				return c, func() error { return c.Obey(o) }
			}, hows)...)
		}
		return states
	})
}

// settled calls do for each item of a list, on all cores, and counts the resulting states. It
// settles each item's states at once: all of them together would fill the memory.
func settled[T any](e *Explorer, all []T, do func(T) []State) int {
	var n atomic.Int64
	parallel(e, all, func(x T) {
		states := do(x)
		n.Add(int64(len(states)))
		for _, s := range states {
			e.settle(s)
		}
	})
	return int(n.Load())
}

// itself is for states that are settled as they are.
func itself(s State) []State { return []State{s} }

// destroyed returns the states with one node gone for good.
func destroyed(states []State, which func(State, string) bool) (gone []State) {
	for _, s := range states {
		for _, name := range s.Names {
			if !which(s, name) {
				continue
			}
			f := s.Fork()
			f.Gone = []string{name}
			f.Nodes[name].Machine.Off()
			gone = append(gone, State{f, s.Story + "; " + name + " is destroyed", name})
		}
	}
	return gone
}

// settle checks that the commands that reach all remaining nodes settle a state: each of them, or
// only one, and another one for the next state.
func (e *Explorer) settle(s State) {
	var reaching []Order
	for _, at := range s.Alive() {
		reaching = append(reaching, Order{At: at, Lost: s.Gone}, Order{Back: true, At: at, Lost: s.Gone})
	}
	if !e.every {
		i := int(e.turn.Add(1)) % len(reaching)
		reaching = reaching[i : i+1]
	}
	for _, o := range reaching {
		e.Settles(s, o)
	}
}

// explore runs the whole exploration, and returns a summary.
func (e *Explorer) explore(make func() *Cluster, hows ...how) string {
	first, attempts := e.runs(make, hows)
	settled(e, first, itself)
	far := distinct(first)
	e.Afar = true
	inRun := e.twice(make, attempts, hows)
	recovered := e.recoveries(far, hows)
	gone := destroyed(far, func(s State, name string) bool { return s.hit == name })
	settled(e, gone, itself)
	without := e.recoveries(gone, hows)
	other := settled(e, destroyed(far, func(s State, name string) bool { return s.hit != name }), itself)
	return fmt.Sprintf("one fault leaves %d states (%d from afar; with its node destroyed "+
		"%d); a second one in the run %d more, in a command typed after the first %d, in one with --lost "+
		"%d, a destroyed other node %d; %d of %d commands typed after the first; "+
		"%d of %d different second strikes on other nodes than the coordinator's; %d "+
		"transitions; settled in the end: %d new, %d old",
		len(first), len(far), len(gone), inRun, recovered,
		without, other, e.typed.Load(), e.typeable.Load(), e.strikes, len(e.struck), e.transitions,
		e.Ends["new"], e.Ends["old"])
}
