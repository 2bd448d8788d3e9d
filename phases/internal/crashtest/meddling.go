package crashtest

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// The matrix of the second actor: at every step of a run somebody else does one of many things.
// Then the run goes on; or it was killed at that step, and is resumed or rolled back. What cannot
// go on because of the deed can once the person has taken it back. docs/failure-model.md has what
// must hold.

// futures are what becomes of the run; empty: it goes on.
func futures() []string { return []string{"", "resume", "rollback"} }

// part is how much of the matrix is played: one in so many, a fixed choice.
func part(usual uint64) uint64 {
	switch {
	case os.Getenv("ETCDPOD_MATRIX") == "full":
		return 1
	case testing.Short():
		return 4 * usual
	}
	return usual
}

// enough plays that went wrong show what kinds there are.
const enough = 50

// chosen says whether a play is in the part that is played.
func chosen(oneIn uint64, what ...any) bool {
	h := fnv.New64a()
	fmt.Fprint(h, what...)
	return h.Sum64()%oneIn == 0
}

// Meddled lets somebody else act at every step of a run.
func Meddled(t *testing.T, cases []Case) {
	oneIn := part(60)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			count, gaveUp, wrong := map[string]int{}, 0, 0
			for at, call := range c.Calls(t) {
				for _, d := range deeds() {
					for _, future := range futures() {
						if !chosen(oneIn, c.Name, at, d.name, future) {
							continue
						}
						ended, err := c.meddled(t, at+1, d, future, nil)
						if err != nil {
							t.Errorf("before step %d (%s) somebody %s, then %q: %v", at+1, call, d.name, future, err)
							if wrong++; wrong == enough {
								t.FailNow()
							}
						}
						count[ended.outcome]++
						gaveUp += ended.refused
					}
				}
			}
			t.Logf("%d plays, one in %d: %d ended old and %d new; %d times going back was refused, to keep a write",
				count["old"]+count["new"], oneIn, count["old"], count["new"], gaveUp)
			if count["old"]+count["new"] == 0 {
				t.Error("the matrix proves nothing: nobody did anything")
			}
		})
	}
}

// ending is how a play ended.
type ending struct {
	outcome string // empty: there was nothing to do
	refused int    // going back was refused, because of a write
}

// MeddledCatch plays a part of the matrix with a mistake until something goes wrong, and says what:
// empty if nothing did.
func MeddledCatch(t *testing.T, c Case, mistake func(*Node)) string {
	for at, call := range c.Calls(t) {
		for _, d := range deeds() {
			for _, future := range futures() {
				if !chosen(8, c.Name, at, d.name, future) {
					continue
				}
				if _, err := c.meddled(t, at+1, d, future, mistake); err != nil {
					return fmt.Sprintf("before step %d (%s) somebody %s, then %q: %v", at+1, call, d.name, future, err)
				}
			}
		}
	}
	return ""
}

// meddled is one play.
func (c Case) meddled(t *testing.T, at int, d deed, future string, mistake func(*Node)) (e ending, err error) {
	w, sub := c.Fresh(t)
	if mistake != nil {
		mistake(w)
	}
	s, acted := meet(w), false
	s.killed = future != ""
	w.Machine.Meddle(at, func() {
		if acted = d.do(s); acted && future != "" {
			w.Machine.Kill()
		}
	})
	err = sub.Run()
	if !acted {
		return e, nil
	}
	if w.Machine.Crashed() {
		w.Machine.Revive()
		w.Machine.Wait(patience)
	}
	// Past the commit point `rollback` does not say what is in the way: `resume` does.
	commands := []string{future, future, "resume", "resume"}
	if future == "" {
		commands[0], commands[1] = "resume", "resume"
	}
	for i, command := range commands {
		e.count(err)
		if w.open() == "" {
			break
		}
		if i == 1 || i == 3 {
			s.told = fmt.Sprint(err)
			d.mend(s)
		}
		w.Restart()
		err = w.Settle(command)
	}
	e.count(err)
	agreed := w.open() != "" && isGivenUp(err)
	if agreed { // only a person can say
		w.Restart()
		w.Process.GiveUp(true)
		err = w.Settle("rollback")
	}
	if id := w.open(); id != "" {
		return e, fmt.Errorf("the run %s stays open: %w (hint: %s)", id, err, engine.Hint(err))
	}
	d.mend(s)
	if s.lost != nil {
		return e, s.lost
	}
	w.Machine.Wait(patience)
	if e.outcome, err = sub.Outcome(); err != nil {
		return e, err
	}
	return e, errors.Join(w.inLine(e.outcome, sub.Votes), keptWrites([]*Node{w}, e.outcome, agreed, s.given))
}

// count counts an error that says that a write would be given up.
func (e *ending) count(err error) {
	if isGivenUp(err) {
		e.refused++
	}
}

func isGivenUp(err error) bool {
	return err != nil && strings.Contains(err.Error(), "clients have written to the new data")
}

// inLine checks that the run has ended as its journal says.
func (w *Node) inLine(outcome string, votes bool) error {
	runs, err := journal.List(w.Machine.Disk)
	for _, r := range runs {
		want := "new"
		if r.State.Aborted != "" {
			want = "old"
		}
		if outcome != want && !votes {
			return fmt.Errorf("by its journal the run ended %s, and the node is %s", want, outcome)
		}
	}
	return err
}

// keptWrites checks that no acknowledged write is given up without a word: it is served or, where a
// person has agreed to give it up, kept; what the person has taken away is given.
func keptWrites(nodes []*Node, outcome string, agreed bool, given []string) error {
	for _, w := range nodes {
		for _, write := range w.Machine.Acked() {
			if slices.Contains(given, write) {
				continue
			}
			served, kept := 0, 0
			for _, n := range nodes {
				if strings.Contains(n.Machine.EtcdData()+"\n", write+"\n") {
					served++
				}
				kept += len(n.Machine.Holds(write))
			}
			switch {
			case outcome == "new" && 2*served > len(nodes), outcome == "old" && agreed && kept > 0:
			case outcome == "old" && !agreed:
				return fmt.Errorf("%q was acknowledged, and given up without a word", write)
			default:
				return fmt.Errorf("%q was acknowledged, and %d of %d etcds serve it", write, served, len(nodes))
			}
		}
	}
	return nil
}

// MeddledTogether lets somebody else act on each node at every instant of a run on several. Then
// the run goes on, or its coordinator was killed at that instant, and it is resumed or rolled back
// from one of the nodes.
func MeddledTogether(t *testing.T, w Together) {
	oneIn := part(120)
	clean := w.Fresh(t)
	if err := clean.Run(w.Nodes[0]); err != nil {
		t.Fatal(err)
	}
	w.Check = nil // it knows only of what etcdpod starts
	e, count, gaveUp, mu := NewExplorer(), map[string]int{}, 0, sync.Mutex{}
	var plays []play
	for at := 1; at <= clean.Instants; at++ {
		for _, node := range w.Nodes {
			for i, d := range deeds() {
				for _, future := range futures() {
					if chosen(oneIn, at, node, d.name, future) {
						plays = append(plays, play{at, node, i, future})
					}
				}
			}
		}
	}
	fresh := w.Fresh(t)
	parallel(e, plays, func(p play) {
		ended, err := fresh.meddled(p)
		if err != nil {
			e.fail(fmt.Errorf("at instant %d of %d somebody on %s %s, then %q: %w",
				p.at, clean.Instants, p.node, deeds()[p.deed].name, p.future, err))
		}
		mu.Lock()
		defer mu.Unlock()
		count[ended.outcome]++
		gaveUp += ended.refused
	})
	t.Logf("%d plays, one in %d: %d ended old and %d new; %d times going back was refused, to keep a write",
		count["old"]+count["new"], oneIn, count["old"], count["new"], gaveUp)
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	if count["old"] == 0 || count["new"] == 0 || w.Promises && gaveUp == 0 && !testing.Short() {
		t.Error("the matrix proves nothing")
	}
}

// play is one deed, on one node, at one instant.
type play struct {
	at     int
	node   string
	deed   int
	future string
}

func (c *Cluster) meddled(p play) (e ending, err error) {
	f, d, acted := c.Fork(), deeds()[p.deed], false
	s := meet(f.Nodes[p.node])
	for _, name := range f.Names {
		m := f.Nodes[name].Machine
		m.Meddled, m.Named, m.Others = true, name, f.machines
	}
	f.meddle = func() {
		if acted = d.do(s); !acted {
			return
		}
		if f.whose[len(f.whose)-1] != p.node && !s.Machine.Crashed() {
			s.Machine.Wait(patience) // nobody looks at this node now
		}
		if p.future != "" {
			f.Nodes[f.At].Machine.Kill()
		}
	}
	f.strikes = []misfortune{{p.at, p.node, meddled}}
	err = f.Run(f.Names[0])
	if !acted {
		return e, nil
	}
	if p.future != "" {
		for _, m := range f.machines() {
			m.Wait(patience)
		}
	}
	at := f.Names[p.at%len(f.Names)]
	agreed := false
	for i, back := range []bool{p.future == "rollback", p.future == "rollback", false, true} {
		e.count(err)
		if f.Settled() {
			break
		}
		if i == 1 {
			s.told = fmt.Sprint(err)
			d.mend(s)
		}
		agreed = i == 3
		if agreed && !isGivenUp(err) {
			break
		}
		if a := f.Read(at); i > 0 && (!a.Begun() || a.End) {
			at = f.openAt()
		}
		err = f.Obey(Order{Back: back, At: at, GiveUp: agreed})
	}
	e.count(err)
	if !f.Settled() {
		return e, fmt.Errorf("the run stays open: %w (hint: %s)", err, engine.Hint(err))
	}
	d.mend(s)
	if s.lost != nil {
		return e, s.lost
	}
	var nodes []*Node
	for _, name := range f.Names {
		f.Nodes[name].Machine.Wait(patience)
		nodes = append(nodes, f.Nodes[name])
	}
	if err := f.Judge(); err != nil {
		return e, err
	}
	if e.outcome, err = f.Verdict(); err != nil {
		return e, err
	}
	return e, keptWrites(nodes, e.outcome, agreed, s.given)
}

// openAt is a node on which the run is open.
func (c *Cluster) openAt() string {
	i := slices.IndexFunc(c.Names, func(name string) bool { a := c.Read(name); return a.Begun() && !a.End })
	return c.Names[max(i, 0)]
}
