package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	screens "github.com/etcdpod/etcdpod/e2e/terminal"
	"github.com/etcdpod/etcdpod/phases/engine"
)

func togetherEvents() []engine.Event {
	at := time.Date(2026, 8, 1, 2, 0, 0, 0, time.UTC)
	var events []engine.Event
	add := func(e engine.Event) {
		at = at.Add(time.Second)
		e.Time, e.Run, e.Together = at, "r", true
		events = append(events, e)
	}
	for _, phase := range []string{"fence", "exchange-data"} {
		for _, node := range []string{"cp1", "cp2"} {
			add(engine.Event{Node: node, Phase: phase, Operation: "do " + phase, State: engine.PhaseStarted})
			add(engine.Event{Node: node, Phase: phase, Operation: "do " + phase, State: engine.Started})
			add(engine.Event{Node: node, Phase: phase, Operation: "do " + phase, State: engine.Finished})
		}
	}
	for _, node := range []string{"cp1", "cp2"} {
		add(engine.Event{Node: node, State: engine.Committed})
	}
	for _, node := range []string{"cp1", "cp2"} {
		add(engine.Event{Node: node, Phase: "verify-restored", Operation: "read", State: engine.PhaseStarted})
	}
	add(engine.Event{Node: "cp2", Phase: "verify-restored", State: engine.Noted, Message: "40 pods"})
	for _, node := range []string{"cp2", "cp1"} {
		add(engine.Event{Node: node, State: engine.Ended})
	}
	return events
}

func TestATerminalShowsALineOfEachNodeAndSaysOnceWhatConcernsAll(t *testing.T) {
	tty := newTerminal(t, 120)
	show := newOnTerminal(tty.program, false, false)
	for _, e := range togetherEvents() {
		show.event(e)
	}
	show.close()
	text := tty.all(t)
	for _, want := range []string{"✓ fence", "cp1", "cp2", "cp2: 40 pods", "✓ exchange-data", "✓ verify-restored"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	for _, once := range []string{commitText, "✓ verify-restored"} {
		if n := strings.Count(text, once); n != 1 {
			t.Errorf("%s is told %d times: %q", once, n, text)
		}
	}
}

// What a phase has noted stands below it, and the commit point after the phase that it follows.
func TestNotesOfSeveralNodesStandBelowTheirPhase(t *testing.T) {
	tty := newTerminal(t, 80)
	show, at := newMany(tty.program, false, false), time.Date(2026, 8, 1, 2, 0, 0, 0, time.UTC)
	for _, e := range []engine.Event{
		{Node: "cp1", Phase: "compare", State: engine.PhaseStarted},
		{Node: "cp1", Phase: "compare", State: engine.Noted, Message: "nine keys"},
		{Node: "cp2", Phase: "compare", State: engine.Noted, Message: "nine, too"},
		{Node: "cp1", State: engine.Committed}, {Node: "cp2", State: engine.Committed},
		{Node: "cp1", Phase: "verify", State: engine.PhaseStarted}, {Node: "cp1", State: engine.Ended},
	} {
		e.Time = at
		show.event(e)
	}
	show.close()
	want := "✓ compare              0s\n  cp1: nine keys\n  cp2: nine, too\n● " + commitText +
		"\n✓ verify               0s\n"
	if got := screens.Screen(tty.all(t), 80); got != want {
		t.Errorf("it shows\n%s", got)
	}
}

func TestWhatIsAlikeOnAllNodesIsSaidOnce(t *testing.T) {
	node := func(name string, lines ...string) engine.NodePlan {
		return engine.NodePlan{Node: name, Plan: engine.Plan{Phases: []engine.PlannedPhase{{Found: lines}}}}
	}
	for _, tt := range []struct {
		nodes []engine.NodePlan
		want  string
	}{
		{[]engine.NodePlan{node("cp1", "a", "same"), node("cp2", "same", "b")},
			"=== on all nodes\n- same\n\n=== cp1\n- a\n\n=== cp2\n- b\n"},
		{[]engine.NodePlan{node("cp1", "a"), node("cp2", "b")}, "=== cp1\n- a\n\n=== cp2\n- b\n"},
		{[]engine.NodePlan{node("cp1", "a")}, "=== cp1\n- a\n"},
	} {
		var b bytes.Buffer
		writeTogether(&b, engine.TogetherPlan{Nodes: tt.nodes}, false, 80)
		if b.String() != tt.want {
			t.Errorf("it says\n%s", b.String())
		}
	}
}

// What comes before a run begins, such as that its snapshot is proven, decides nothing.
func TestEachNodeIsNamedWhateverComesFirst(t *testing.T) {
	tty := newTerminal(t, 120)
	show := newOnTerminal(tty.program, true, false)
	show.event(engine.Event{State: engine.Progressed, Phase: "verify-snapshot", Operation: "prove", Done: 1, Total: 2})
	for _, e := range togetherEvents() {
		show.event(e)
	}
	show.close()
	text := strings.Join(screen(tty.all(t)), "\n")
	if n := strings.Count(text, "✓ fence"); n != 1 {
		t.Errorf("the end of a phase is told %d times:\n%s", n, text)
	}
	for _, want := range []string{"cp1: do fence", "cp2: do fence"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestALogNamesTheNodeOfEachLine(t *testing.T) {
	var out bytes.Buffer
	show := newPlain(&out, false)
	for _, e := range togetherEvents() {
		show.event(e)
	}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if !strings.Contains(line, "Z cp1: ") && !strings.Contains(line, "Z cp2: ") {
			t.Errorf("whose line is %q?", line)
		}
	}
}
