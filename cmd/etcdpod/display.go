package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// display shows a person, or a program, what happens. It may be used again after close: a question
// comes between two displays.
type display interface {
	event(engine.Event)
	say(text string) // something that is no event
	close()
}

// Labels for what must not be overlooked.
const (
	commitText    = "commit point: from here the run can only go forward"
	goingBackText = "GOING BACK: undoing everything that was done"
	wentBackText  = "everything is as before"
	putBackText   = "everything is put back, but it is not as before"
)

func (s *session) display(c *cli.Context) display {
	show := s.displayOf(c)
	return sparingDisplay{show, engine.Sparing(show.event)}
}

// sparingDisplay shows progress at most twice a second.
type sparingDisplay struct {
	display
	sparing func(engine.Event)
}

func (d sparingDisplay) event(e engine.Event) { d.sparing(e) }

func (s *session) displayOf(c *cli.Context) display {
	switch {
	case s.isQuiet(c):
		return quietDisplay{s.stderr}
	case asJSON(c):
		return &jsonDisplay{to: json.NewEncoder(visibleJSON{s.stdout}), aside: s.stderr}
	case isTerminal(s.stderr) && s.env("TERM") != "dumb":
		color := !c.Bool("no-color") && s.env("NO_COLOR") == ""
		return visibleDisplay{newOnTerminal(s.stderr, c.Bool("verbose"), color)}
	}
	return visibleDisplay{newPlain(s.stderr, c.Bool("verbose"))}
}

// onTerminal shows one node, and several from the first event of one of several on.
type onTerminal struct {
	mu      sync.Mutex
	shown   display
	several func() display // nil once they are shown
}

func newOnTerminal(to io.Writer, verbose, color bool) *onTerminal {
	return &onTerminal{shown: newLive(to, verbose, color), several: func() display {
		return newMany(to, verbose, color)
	}}
}

func (d *onTerminal) event(e engine.Event) { d.showing(e.Together).event(e) }

func (d *onTerminal) say(text string) { d.showing(false).say(text) }

func (d *onTerminal) close() { d.showing(false).close() }

func (d *onTerminal) showing(together bool) display {
	d.mu.Lock()
	defer d.mu.Unlock()
	if together && d.several != nil {
		d.shown.close()
		d.shown, d.several = d.several(), nil
	}
	return d.shown
}

// jsonDisplay writes each event of a run as a line of JSON. That something was looked at is no
// part of what a program reads, so a command that only looks writes its result alone, and none
// has to say which of the two it is.
type jsonDisplay struct {
	mu    sync.Mutex
	to    *json.Encoder
	aside io.Writer // for people
}

func (d *jsonDisplay) event(e engine.Event) {
	if e.Run == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.to.Encode(e) // the reader has gone; the run goes on
}

func (d *jsonDisplay) say(text string) { fmt.Fprintln(d.aside, text) }

func (d *jsonDisplay) close() {}

// progressInterval is how often a log shows that a long operation goes on.
const progressInterval = 5 * time.Second

// plainDisplay writes lines for logs, with timestamps.
type plainDisplay struct {
	mu      sync.Mutex
	to      io.Writer
	verbose bool

	back  bool
	under map[string]underWay // by node
}

// underWay is what a node is doing.
type underWay struct {
	operation string
	told      time.Time // of the last line about its progress, or its start
}

func newPlain(to io.Writer, verbose bool) *plainDisplay {
	return &plainDisplay{to: to, verbose: verbose, under: map[string]underWay{}}
}

func (d *plainDisplay) event(e engine.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	text := d.text(e)
	if text != "" && e.Together {
		text = e.Node + ": " + strings.TrimSpace(text)
	}
	if text != "" {
		fmt.Fprintf(d.to, "%s %s\n", e.Time.UTC().Format("15:04:05Z"), text)
	}
}

func (d *plainDisplay) text(e engine.Event) string {
	switch e.State {
	case engine.PhaseStarted:
		return e.Phase
	case engine.Started:
		d.under[e.Node] = underWay{e.Operation, e.Time}
		if d.verbose {
			return "  begin: " + e.Operation
		}
	case engine.Progressed:
		return d.progressed(e)
	case engine.Finished:
		return "  done: " + e.Operation
	case engine.Noted:
		return "  note: " + oneLine(e.Message)
	case engine.Failed:
		return fmt.Sprintf("  FAILED: %s: %s", e.Operation, oneLine(e.Error))
	case engine.Stopped:
		return "  interrupted: " + e.Operation
	case engine.Committed:
		return commitText
	case engine.GoingBack:
		d.back = true
		return goingBack(e)
	case engine.Undoing:
		if d.verbose {
			return "  undo: " + e.Operation
		}
	case engine.Undone:
		return "  undone: " + e.Operation
	case engine.Ended:
		if d.back {
			return wentBack(e)
		}
		return "done"
	}
	return ""
}

// wentBack says how a run ended that has gone back: what served before may not serve again.
func wentBack(e engine.Event) string {
	if e.Error != "" {
		return putBackText
	}
	return wentBackText
}

func (d *plainDisplay) progressed(e engine.Event) string {
	now := d.under[e.Node]
	if e.Operation != now.operation {
		now = underWay{e.Operation, e.Time}
		d.under[e.Node] = now
	}
	if e.Time.Sub(now.told) < progressInterval {
		return ""
	}
	d.under[e.Node] = underWay{e.Operation, e.Time}
	return fmt.Sprintf("  %s: %s", amount(e.Done, e.Total), e.Operation)
}

func (d *plainDisplay) say(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintln(d.to, text)
}

func (d *plainDisplay) close() {}

// goingBack says so, and for how long.
func goingBack(e engine.Event) string {
	if e.Message == "" {
		return goingBackText
	}
	return goingBackText + "; " + oneLine(e.Message)
}

// amount says how much is done: large numbers are bytes, shown as a share of the total.
func amount(done, total int64) string {
	const small = 1 << 16
	switch {
	case total <= 0 && done < small:
		return fmt.Sprint(done)
	case total <= 0:
		return engine.Size(done)
	case total < small:
		return fmt.Sprintf("%d of %d", done, total)
	}
	return fmt.Sprintf("%d %% of %s", 100*done/total, engine.Size(total))
}
