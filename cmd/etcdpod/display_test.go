package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	screens "github.com/etcdpod/etcdpod/e2e/terminal"
	"github.com/etcdpod/etcdpod/phases/engine"
)

var update = flag.Bool("update", false, "write the files that this package's tests compare with")

// aRun is a run with everything that can happen: after the commit point, or back.
func aRun(back bool) []engine.Event {
	at := time.Date(2026, 8, 1, 2, 0, 0, 0, time.UTC)
	var events []engine.Event
	add := func(e engine.Event, after time.Duration) {
		at = at.Add(after)
		e.Time, e.Run, e.Node = at, "20260801T020000Z-restore-ab12", "cp1"
		events = append(events, e)
	}
	op := func(state engine.EventState, phase, operation string, after time.Duration) {
		add(engine.Event{State: state, Phase: phase, Operation: operation}, after)
	}
	stage := "stage the data in /var/lib/etcdpod/runs/20260801T020000Z-restore-ab12/data"
	op(engine.PhaseStarted, "stage-data", "make the directory /var/lib/etcdpod/runs/x/data", 0)
	op(engine.Started, "stage-data", "make the directory /var/lib/etcdpod/runs/x/data", 0)
	op(engine.Finished, "stage-data", "make the directory /var/lib/etcdpod/runs/x/data", 20*time.Millisecond)
	op(engine.Started, "stage-data", stage, 0)
	for i := range int64(5) {
		add(engine.Event{State: engine.Progressed, Phase: "stage-data",
			Operation: stage, Done: i << 28, Total: 1 << 30}, 3*time.Second)
	}
	add(engine.Event{State: engine.Noted, Phase: "stage-data",
		Operation: stage, Message: "revisions go on at 1000081235"}, time.Second)
	op(engine.Finished, "stage-data", stage, 0)
	op(engine.PhaseStarted, "fence", "stop the kubelet", 0)
	op(engine.Started, "fence", "stop the kubelet", 0)
	if back {
		add(engine.Event{State: engine.Failed, Phase: "fence",
			Operation: "stop the kubelet", Error: "cannot stop the kubelet: not within 30s"}, 30*time.Second)
		op(engine.GoingBack, "", "", 0)
		op(engine.Undoing, "fence", "stop the kubelet", 0)
		op(engine.Undone, "fence", "stop the kubelet", 200*time.Millisecond)
		op(engine.Undoing, "stage-data", stage, 0)
		op(engine.Undone, "stage-data", stage, time.Second)
	} else {
		op(engine.Finished, "fence", "stop the kubelet", 2*time.Second)
		op(engine.Committed, "", "", 0)
		op(engine.PhaseStarted, "release-apiserver", "put back kube-apiserver.yaml", 0)
		op(engine.Started, "release-apiserver", "put back kube-apiserver.yaml", 0)
		op(engine.Finished, "release-apiserver", "put back kube-apiserver.yaml", time.Second)
	}
	op(engine.Ended, "", "", 0)
	return events
}

func TestLogsSayWhatHappened(t *testing.T) {
	for name, d := range map[string]struct{ back, verbose bool }{
		"forward": {false, false},
		"back":    {true, false},
		"verbose": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			show := newPlain(&out, d.verbose)
			for _, e := range aRun(d.back) {
				show.event(e)
			}
			golden(t, filepath.Join("testdata", "log-"+name+".golden"), out.String())
		})
	}
}

func TestJSONTellsEveryEventOnALine(t *testing.T) {
	var out strings.Builder
	show := &jsonDisplay{to: json.NewEncoder(&out)}
	events := aRun(true)
	for _, e := range events {
		show.event(e)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(events) {
		t.Fatalf("%d lines for %d events", len(lines), len(events))
	}
	for i, line := range lines {
		var e engine.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e != events[i] {
			t.Errorf("%s is not %v: %v", line, events[i], err)
		}
	}
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

// screen returns what stays on a terminal after all output.
func screen(written string) []string {
	var lines []string
	up := regexp.MustCompile("^\x1b\\[([0-9]+)A\x1b\\[J")
	for written != "" {
		if m := up.FindStringSubmatch(written); m != nil {
			n := 0
			for _, c := range m[1] {
				n = 10*n + int(c-'0')
			}
			lines = lines[:max(0, len(lines)-n)]
			written = written[len(m[0]):]
			continue
		}
		line, rest, whole := strings.Cut(written, "\n")
		if !whole {
			break
		}
		lines = append(lines, strings.TrimRight(strings.Trim(escapes.ReplaceAllString(line, ""), "\r"), " "))
		written = rest
	}
	return lines
}

func TestATerminalKeepsWhatIsOver(t *testing.T) {
	for name, d := range map[string]struct{ back, verbose bool }{
		"forward": {false, false},
		"back":    {true, false},
		"verbose": {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			tty := newTerminal(t, 80)
			show := newLive(tty.program, d.verbose, true)
			events := aRun(d.back)
			for _, e := range events {
				show.event(e)
			}
			show.close()
			golden(t, filepath.Join("testdata", "screen-"+name+".golden"), strings.Join(screen(tty.all(t)), "\n")+"\n")
		})
	}
}

// TestWhatIsUndoneIsNotCutOnANarrowTerminal: of what stays, a person needs every word.
func TestWhatIsUndoneIsNotCutOnANarrowTerminal(t *testing.T) {
	for name, made := range map[string]func(to *os.File) display{
		"one node":      func(to *os.File) display { return newLive(to, true, true) },
		"several nodes": func(to *os.File) display { return newMany(to, true, true) },
	} {
		t.Run(name, func(t *testing.T) {
			tty := newTerminal(t, 40)
			show := made(tty.program)
			var undone []string
			for _, e := range aRun(true) {
				show.event(e)
				if e.State == engine.Undone {
					undone = append(undone, e.Operation)
				}
			}
			show.close()
			stays := strings.Join(strings.Fields(strings.Join(screen(tty.all(t)), " ")), " ")
			for _, operation := range undone {
				if !strings.Contains(stays, operation) {
					t.Errorf("%q is not all on the screen:\n%s", operation, stays)
				}
			}
			if len(undone) == 0 || strings.Contains(stays, "…") {
				t.Errorf("it undoes %q, and shows\n%s", undone, stays)
			}
		})
	}
}

func TestTheMovingLineFitsTheTerminal(t *testing.T) {
	for _, columns := range []uint16{200, 80, 40, 20} {
		tty := newTerminal(t, columns)
		show := newLive(tty.program, false, false)
		for _, e := range aRun(false)[:7] {
			show.event(e)
		}
		tty.waitForTimes(t, 4, "stage-data") // drawn this many times
		show.close()
		for _, line := range strings.Split(escapes.ReplaceAllString(tty.all(t), ""), "\n") {
			if n := len([]rune(strings.Trim(line, "\r"))); n > int(columns) {
				t.Errorf("%d columns: %d letters: %q", columns, n, line)
			}
		}
	}
}

// The terminal echoes ^C where the cursor is, which nothing that draws knows of.
func TestCtrlCLeavesNoTraceOfAMovingLine(t *testing.T) {
	for name, show := range map[string]func(*terminal) display{
		"one node": func(tty *terminal) display { return newLive(tty.program, false, false) },
		"several":  func(tty *terminal) display { return newMany(tty.program, false, false) },
	} {
		t.Run(name, func(t *testing.T) {
			tty := newTerminal(t, 80)
			d, at := show(tty), time.Date(2026, 8, 1, 2, 0, 0, 0, time.UTC)
			d.event(engine.Event{Time: at, Node: "cp1", Phase: "stage-data", State: engine.PhaseStarted})
			tty.waitFor(t, "stage-data")
			if _, err := tty.person.WriteString("\x03"); err != nil {
				t.Fatal(err)
			}
			tty.waitFor(t, "^C")
			d.event(engine.Event{Time: at, Node: "cp1", Phase: "fence", State: engine.PhaseStarted})
			tty.waitForTimes(t, 2, "fence") // drawn twice
			if _, err := tty.person.WriteString("\x03"); err != nil {
				t.Fatal(err)
			}
			tty.waitForTimes(t, 2, "^C")
			d.close()
			if got, want := screens.Screen(tty.all(t), 80), "✓ stage-data           0s\n"; got != want {
				t.Errorf("there stays %q, and not %q", got, want)
			}
		})
	}
}

func TestARunGoesOnWhenItsTerminalIsGone(t *testing.T) {
	tty := newTerminal(t, 80)
	show := newLive(tty.program, true, true)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		for i, e := range aRun(true) {
			show.event(e)
			if i == 5 {
				tty.waitFor(t, "stage-data")
				_ = tty.person.Close()
				time.Sleep(400 * time.Millisecond) // for a few redraws that nobody sees
			}
		}
		show.close()
	}()
	select {
	case <-shown:
		if _, err := tty.program.WriteString("x"); err == nil {
			t.Error("the terminal is still there")
		}
	case <-time.After(patience):
		t.Fatal("the display waits for a terminal that is gone")
	}
}

// What is looked at before a question has its phase: the time until the answer is not part of it.
func TestWaitingForAnAnswerIsNotTimeOfAPhase(t *testing.T) {
	tty := newTerminal(t, 80)
	show := newLive(tty.program, false, false)
	asked := time.Date(2026, 8, 1, 2, 0, 0, 0, time.UTC)
	show.event(engine.Event{Time: asked, State: engine.Progressed, Phase: "verify-snapshot", Operation: "prove it",
		Done: 1})
	show.close()
	for i, e := range []engine.Event{
		{State: engine.PhaseStarted, Phase: "stage-data"}, {State: engine.Ended}} {
		e.Time = asked.Add(time.Hour + time.Duration(i)*time.Second)
		show.event(e)
	}
	show.close()
	written := strings.Join(screen(tty.all(t)), "\n")
	if strings.Contains(written, "verify-snapshot") || !strings.Contains(written, "✓ stage-data           1.0s") {
		t.Errorf("it shows\n%s", written)
	}
}

// After a run has gone back, something may not serve again: then nothing is as it was.
func TestARunThatWentBackToSomethingThatDoesNotServeIsNotSaidToBeAsBefore(t *testing.T) {
	for lacks, says := range map[string]string{"": wentBackText, "etcd does not serve": putBackText} {
		tty := newTerminal(t, 80)
		var plain strings.Builder
		log, live := newPlain(&plain, false), newLive(tty.program, false, false)
		for _, e := range aRun(true) {
			if e.State == engine.Ended {
				e.Error = lacks
			}
			log.event(e)
			live.event(e)
		}
		live.close()
		shown := strings.Join(screen(tty.all(t)), "\n")
		for _, text := range []string{plain.String(), shown} {
			if !strings.Contains(text, says) || lacks != "" && strings.Contains(text, wentBackText) {
				t.Errorf("%q: it shows\n%s", lacks, text)
			}
		}
	}
}

func TestColoursAreLeftOutWhenNotWanted(t *testing.T) {
	tty := newTerminal(t, 80)
	show := newLive(tty.program, false, false)
	for _, e := range aRun(true) {
		show.event(e)
	}
	show.close()
	shown := tty.all(t)
	if colour := regexp.MustCompile("\x1b\\[[0-9;]*m").FindString(shown); colour != "" {
		t.Errorf("%q in %q", colour, shown)
	}
}

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) || string(want) != got {
		t.Errorf("%s is not what there is now (go test ./cmd/etcdpod -update writes it): %s",
			name, firstDifference(string(want), got))
	} else if err != nil {
		t.Fatal(err)
	}
}

func firstDifference(want, got string) string {
	old, now := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(old), len(now)) {
		if old[i] != now[i] {
			return fmt.Sprintf("line %d is\n%s\nand the file has\n%s", i+1, now[i], old[i])
		}
	}
	return fmt.Sprintf("%d lines, and the file has %d", len(now), len(old))
}
