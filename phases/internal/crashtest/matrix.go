package crashtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// Case is one workflow on one shape of a node: all that the crash matrix needs to know.
type Case struct {
	Name string
	// Machine makes a node on which nothing has happened yet.
	Machine func(*testing.T) *sim.Machine
	// On says how the run goes and how it ends on that machine; before is how the machine was
	// before the run.
	On func(w *Node, before *sim.Machine) Subject
}

// Subject is what is stopped, and how the result is judged.
type Subject struct {
	Run     func() error
	Outcome func() (string, error) // "old" or "new", or what is wrong
	// Votes marks a run that may end new although it rolled back: etcd never takes a vote back.
	Votes bool
}

// Fresh makes a new node.
func (c Case) Fresh(t *testing.T) (*Node, Subject) {
	t.Helper()
	machine := c.Machine(t)
	w := Alone(t, machine)
	return w, c.On(w, machine)
}

// StoppedAnywhere stops a run at every step, in every way, and settles it with `resume` and, in
// another pass, with `rollback`, each also stopped on the way. Every time the node ends wholly old
// or wholly new, sim's invariants hold after every step, and a power loss reverses nothing that was
// settled. Steps take turns: each is stopped in one of the four ways and resumed, and in another
// one and rolled back; the next step has the next ways. With ETCDPOD_MATRIX=full, each is stopped
// in all of them, and both resumed and rolled back.
func StoppedAnywhere(t *testing.T, cases []Case) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			count := map[string]int{}
			before, all := c.stopped(t)
			for pass, how := range Crashes() {
				for _, recovery := range []string{"resume", "rollback"} {
					c.matrix(t, before, all, how, recovery, pass, count)
					pass++
				}
			}
			t.Logf("%d cases, %d of them ended old and %d new", count["old"]+count["new"], count["old"], count["new"])
			if count["old"] == 0 || count["new"] == 0 {
				t.Error("the matrix proves nothing: all cases ended alike")
			}
		})
	}
}

// stopped is a machine on which a run was killed before a step.
type stopped struct {
	call    string // the step
	machine *sim.Machine
}

// stopped returns the machine before the run, and what a kill before each step of an undisturbed
// run leaves. The run is the same up to there wherever it is killed, so it is played once.
func (c Case) stopped(t *testing.T) (before *sim.Machine, all []stopped) {
	t.Helper()
	before = c.Machine(t)
	c.undisturbed(t, before, func(m *sim.Machine, call string) { all = append(all, stopped{call, m.Clone()}) })
	return before, all
}

// matrix stops one run in one way at the steps whose turn it is, and stops recoveries from it, too.
func (c Case) matrix(
	t *testing.T, before *sim.Machine, all []stopped, how Crash, recovery string, pass int, count map[string]int,
) {
	for at, k := range all {
		if (at+pass)%len(Crashes()) > 0 && os.Getenv("ETCDPOD_MATRIX") != "full" {
			continue
		}
		for _, again := range how.times(at+1, k.call) {
			s := Stop{At: at + 1, again: again, How: how, Recovery: recovery}
			w, sub := c.over(t, k.machine, before)
			outcome, err := w.settled(sub, s)
			if err != nil {
				t.Fatalf("%s (%s): %v", s, k.call, err)
			}
			count[outcome]++
		}
	}
}

// over puts an etcdpod on a copy of a machine; before is how that was before the run.
func (c Case) over(t *testing.T, machine, before *sim.Machine) (*Node, Subject) {
	t.Helper()
	w := Over(t, "cp1", machine.Clone(), before)
	return w, c.On(w, before)
}

// watch calls look before each step of a machine, after whatever looks at it already, until stop is
// called.
func watch(m *sim.Machine, look func(call string)) (stop func()) {
	looks := m.Before
	m.Before = func(call string) {
		if looks != nil {
			looks(call)
		}
		look(call)
	}
	return func() { m.Before = looks }
}

// Calls are the steps of the run when nothing stops it.
func (c Case) Calls(t *testing.T) (calls []string) {
	t.Helper()
	c.undisturbed(t, c.Machine(t), func(_ *sim.Machine, call string) { calls = append(calls, call) })
	return calls
}

// undisturbed plays a run that nothing stops, on a copy of a machine, and shows each step before it
// is done.
func (c Case) undisturbed(t *testing.T, before *sim.Machine, step func(m *sim.Machine, call string)) {
	t.Helper()
	w, sub := c.over(t, before, before)
	stop := watch(w.Machine, func(call string) { step(w.Machine, call) })
	if err := sub.Run(); err != nil {
		t.Fatalf("the run that nothing stops: %v", err)
	}
	stop()
	if outcome, err := sub.Outcome(); outcome != "new" || err != nil {
		t.Fatalf("the run that nothing stops ended %s: %v", outcome, err)
	}
}

// Crash is one way to end a process.
type Crash struct {
	Name  string
	After func(*Node, int)
	// again, if set, ends the recovery soon after its beginning; nil: it is ended anywhere, as the
	// run was.
	again func(*Node, int)
}

// Crashes are the ways in which the matrix ends a process.
func Crashes() []Crash {
	power := func(mode sim.CrashMode) func(*Node, int) {
		return func(w *Node, step int) { w.Machine.PowerLoss(mode, rand.New(rand.NewPCG(1, uint64(step)))) }
	}
	kill := func(w *Node, _ int) { w.Machine.Revive() }
	return []Crash{
		{Name: "SIGKILL", After: kill},
		{Name: "power loss, unsynced dropped", After: power(sim.DropUnsynced)},
		{Name: "power loss, unsynced mixed", After: power(sim.MixUnsynced)},
		// A kill leaves unsynced what was under way. The recovery finds it there, as if it were
		// durable.
		{Name: "SIGKILL, and a power loss in the recovery", After: kill, again: power(sim.DropUnsynced)},
	}
}

// These are the steps of a recovery after its first record, which normally says that the operation
// in doubt is done. By then what the recovery read in the journal is durable: a power loss reverses
// nothing that was decided.
const earlyFrom, earlyUntil = 11, 14

// times are the steps at which the recovery is also stopped; 0: it is not. Two recoveries in three
// are stopped, at steps that shift with the run's, so that over the whole matrix each step occurs.
// Where something was about to be synced, and was not, the power is cut at every step around the
// first record.
func (c Crash) times(at int, call string) (steps []int) {
	const most = 149 // no recovery has more steps
	switch {
	case c.again != nil && strings.HasPrefix(call, "sync "):
		for step := earlyFrom; step <= earlyUntil; step++ {
			steps = append(steps, step)
		}
		return steps
	case c.again != nil:
		return []int{earlyFrom + at%(earlyUntil-earlyFrom+1)}
	case at%3 > 0:
		return []int{1 + (at*7)%most}
	}
	return []int{0}
}

func (c Crash) afterRecovery(w *Node, step int) {
	if c.again != nil {
		c.again(w, step)
		return
	}
	c.After(w, step)
}

// Stop is a run that is stopped at one step, and a recovery that may also be stopped.
type Stop struct {
	At, again int // steps; again 0: the recovery is not stopped
	How       Crash
	Recovery  string
}

func (s Stop) String() string {
	return fmt.Sprintf("%s at step %d, %s stopped at %d", s.How.Name, s.At, s.Recovery, s.again)
}

// Play stops a run, settles it, and returns the outcome.
func (w *Node) Play(sub Subject, s Stop) (outcome string, err error) {
	w.Machine.CrashAt = s.At
	if err := sub.Run(); !w.Machine.Crashed() {
		return "", errors.Join(ErrNotStopped, err)
	}
	return w.settled(sub, s)
}

// settled settles a run that was killed, and returns the outcome.
func (w *Node) settled(sub Subject, s Stop) (outcome string, err error) {
	s.How.After(w, s.At)
	committed, began := w.Committed(), w.Began()
	if err := w.settleStopped(s); err != nil {
		return "", err
	}
	if outcome, err = sub.Outcome(); err != nil {
		return "", err
	}
	want := "old"
	if committed || s.Recovery == "resume" && began || sub.Votes && outcome == "new" {
		want = "new"
	}
	if outcome != want {
		return "", fmt.Errorf("it ended %s, and not %s", outcome, want)
	}
	return outcome, w.lasts(outcome, sub.Outcome)
}

// settleStopped types the recovery, which is also stopped, then types it once more, and then types
// `resume`: past the commit point nothing else helps.
func (w *Node) settleStopped(s Stop) error {
	var refused *engine.RefusedError
	for i, command := range []string{s.Recovery, s.Recovery, "resume"} {
		w.Restart()
		if i == 0 {
			w.Machine.CrashAt = s.again
		}
		err := w.Settle(command)
		if w.Machine.Crashed() {
			s.How.afterRecovery(w, s.again)
			continue
		}
		if w.Machine.CrashAt = 0; err != nil && !errors.As(err, &refused) {
			return err
		}
	}
	return nil
}

// lasts cuts the power once everything is settled, and with it everything never synced. The outcome
// must stay the same, and no run may be open again.
func (w *Node) lasts(outcome string, verdict func() (string, error)) error {
	w.Machine.PowerLoss(sim.DropUnsynced, nil)
	runs, err := journal.List(w.Machine.Disk)
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.State != nil && !r.State.Ended {
			return fmt.Errorf("it was settled, and the run %s is open again after a power loss", r.ID)
		}
	}
	if again, err := verdict(); err != nil || again != outcome {
		return fmt.Errorf("it ended %s, and is %s after a power loss: %w", outcome, again, err)
	}
	return nil
}

// FailedAnywhere makes every step of a run fail once, as on a full disk: before the commit point
// the run rolls back by itself, and the next command settles what stays open.
func FailedAnywhere(t *testing.T, cases []Case) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			for at, call := range c.Calls(t) {
				w, sub := c.Fresh(t)
				w.Machine.FailAt, w.Machine.FailWith = at+1, ErrNoSpace
				err := sub.Run()
				if IsOpen(err) {
					w.Restart()
					if err = w.Settle("resume"); IsOpen(err) {
						t.Fatalf("step %d (%s) failed once, and the run stays open: %v", at+1, call, err)
					}
				}
				outcome, wrong := sub.Outcome()
				voted := sub.Votes && outcome == "new"
				if wrong != nil || (err == nil) != (outcome == "new") && !voted {
					t.Fatalf("step %d (%s) failed: it ended %s with %v: %v", at+1, call, outcome, err, wrong)
				}
			}
		})
	}
}

var (
	// ErrNoSpace is what a full disk answers.
	ErrNoSpace = syscall.ENOSPC
	// ErrNotStopped says that a run had ended before the step at which it was to be stopped.
	ErrNotStopped = errors.New("it was not stopped")
)

// IsOpen says whether an error leaves a run open.
func IsOpen(err error) bool {
	var open *engine.OpenRunError
	return errors.As(err, &open)
}

// IsRolledBack says whether an error tells of a run that has gone back.
func IsRolledBack(err error) bool {
	var back *engine.RolledBackError
	return errors.As(err, &back)
}
