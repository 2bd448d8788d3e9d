package crashtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// Ctrl-C, before each step. The first one cancels the context of the command: the run goes back, or
// past the commit point stays open. No further one stops it from going back: the second ends the
// process there and then, which the command line does by itself, and leaves the run open.

// interruptAt cancels the context of the next command before one of its steps.
func (w *Node) interruptAt(at int) {
	ctx, cancel := context.WithCancel(context.Background())
	w.interrupted = ctx
	steps, stop := 0, func() {}
	stop = watch(w.Machine, func(string) {
		if steps++; steps == at {
			cancel()
			stop()
		}
	})
}

// InterruptedAnywhere interrupts a run before its steps: one in 7, with -short one in 28, and with
// ETCDPOD_MATRIX=full each. Then it interrupts it again on the way back, before the steps of that,
// and interrupts the command that settles what that leaves: what goes back is not stopped by that.
func InterruptedAnywhere(t *testing.T, cases []Case) {
	oneIn := int(part(7))
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			before := c.Machine(t)
			count, deepest := map[string]int{}, 0
			for at, call := range c.Calls(t) {
				if at%oneIn > 0 {
					continue
				}
				w, sub := c.over(t, before, before)
				w.interruptAt(at + 1)
				outcome, err := w.afterInterrupt(sub, sub.Run())
				if err != nil {
					t.Fatalf("interrupted before step %d (%s): %v", at+1, call, err)
				}
				if count[outcome]++; outcome == "old" {
					deepest = at + 1
				}
			}
			again := c.interruptedAgain(t, deepest, oneIn)
			t.Logf("%d interrupts: %d ended old and %d new; and %d on the way back", count["old"]+count["new"],
				count["old"], count["new"], again)
			if count["old"] == 0 || again == 0 {
				t.Error("nothing was interrupted")
			}
		})
	}
}

// afterInterrupt says how a run ended that was interrupted once, and resumes one that is past its
// commit point.
func (w *Node) afterInterrupt(sub Subject, err error) (outcome string, wrong error) {
	committed, want := w.Committed(), "old"
	switch {
	case committed && err == nil:
		want = "new"
	case committed && IsOpen(err):
		want, w.interrupted = "new", nil
		w.Restart()
		if err := w.Settle("resume"); err != nil {
			return "", err
		}
	case committed || w.Began() && !IsRolledBack(err) || !errors.Is(err, context.Canceled):
		return "", fmt.Errorf("it says: %w", err)
	}
	if outcome, wrong = sub.Outcome(); wrong == nil && outcome != want && !sub.Votes {
		wrong = fmt.Errorf("it ended %s, and not %s: %w", outcome, want, err)
	}
	return outcome, wrong
}

// interruptedAgain interrupts a run before one step, and then again before each step of the way
// back. The process ends there; the command that settles that is interrupted, too, and goes on.
func (c Case) interruptedAgain(t *testing.T, at, oneIn int) (times int) {
	t.Helper()
	before := c.Machine(t)
	w, sub := c.over(t, before, before)
	w.interruptAt(at)
	_ = sub.Run() // as seen before
	last := w.Machine.Steps
	for second := at + 1; second <= last; second += oneIn {
		for _, command := range []string{"resume", "rollback"} {
			w, sub := c.over(t, before, before)
			w.interruptAt(at)
			w.Machine.CrashAt = second
			if err := sub.Run(); !w.Machine.Crashed() {
				t.Fatalf("the run interrupted before step %d is not the same again at %d: %v", at, second, err)
			}
			call := w.Machine.Calls[second-1]
			w.Machine.Revive()
			w.Restart()
			w.interrupted = nil
			settles := command == "rollback" || w.aborted() || w.open() == ""
			if settles { // otherwise the interrupt would not let it go forward
				w.interruptAt(1 + second%(last-at))
			}
			err := w.Settle(command)
			var refused *engine.RefusedError
			if outcome, wrong := sub.Outcome(); err != nil && !IsRolledBack(err) && !errors.As(err, &refused) ||
				wrong != nil || (outcome != "old") == settles && !sub.Votes || w.open() != "" {
				t.Fatalf("interrupted before step %d, and again before step %d (%s) on the way back, then %s: "+
					"it ended %q with %v: %v", at, second, call, command, outcome, err, wrong)
			}
			times++
		}
	}
	return times
}

// aborted says whether the latest run has recorded that it goes back.
func (w *Node) aborted() bool {
	runs, _ := journal.List(w.Machine.Disk)
	return len(runs) > 0 && runs[len(runs)-1].State.Aborted != ""
}

// InterruptedTogether interrupts the coordinator of a run on several nodes at some instants of any
// of them: one in 16, and with ETCDPOD_MATRIX=full at each.
func InterruptedTogether(t *testing.T, w Together) {
	clean := w.Fresh(t)
	if err := clean.Run(w.Nodes[0]); err != nil {
		t.Fatal(err)
	}
	e, count, mu := NewExplorer(), map[string]int{}, sync.Mutex{}
	var plays []play
	for at := 1; at <= clean.Instants; at++ {
		if chosen(part(16), "interrupt", at) {
			plays = append(plays, play{at: at, node: w.Nodes[0]})
		}
	}
	fresh := w.Fresh(t)
	parallel(e, plays, func(p play) {
		outcome, err := fresh.interrupted(p)
		if err != nil {
			e.fail(fmt.Errorf("interrupted at instant %d of %d: %w", p.at, clean.Instants, err))
		}
		mu.Lock()
		defer mu.Unlock()
		count[outcome]++
	})
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	t.Logf("%d interrupts: %d ended old and %d new", len(plays), count["old"], count["new"])
	if count["old"] == 0 || count["new"] == 0 && !testing.Short() {
		t.Error("nothing was interrupted")
	}
}

// interrupted interrupts the coordinator at one instant.
func (c *Cluster) interrupted(p play) (outcome string, err error) {
	f := c.Fork()
	ctx, cancel := context.WithCancel(context.Background())
	f.Nodes[p.node].interrupted, f.meddle = ctx, cancel
	f.strikes = []misfortune{{p.at, p.node, meddled}}
	err = f.Run(p.node)
	f.Nodes[p.node].interrupted = nil
	want := "old"
	if f.Holds(p.node, "commit") {
		want = "new"
	}
	switch {
	case want == "old" && !f.Settled():
		return "", fmt.Errorf("it does not go back: %w", err)
	case IsOpen(err):
		if err := f.Obey(Order{At: p.node}); err != nil {
			return "", err
		}
	case err != nil && (want == "new" || !errors.Is(err, context.Canceled) && !IsRolledBack(err)):
		return "", err
	}
	if err := f.Judge(); err != nil {
		return "", err
	}
	if outcome, err = f.Verdict(); err == nil && outcome != want {
		err = fmt.Errorf("it ended %s, and not %s", outcome, want)
	}
	return outcome, err
}
