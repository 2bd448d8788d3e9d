package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// many shows a run on several nodes on a terminal: one moving line per node, and above them what is
// over as lines that stay.
type many struct {
	events  sync.Mutex // one event at a time
	to      io.Writer
	verbose bool
	paint   painter
	screen  *mpb.Progress // nil while nothing is shown
	nodes   []*nodeLine   // in the order of their first event
	phase   string        // the last phase with a line that stays
	since   time.Time
	below   []string                   // lines to show when the phase is over, below its name
	told    map[engine.EventState]bool // what is shown once for all nodes
}

// nodeLine is the moving line of one node. live draws it, on the shared screen.
type nodeLine struct {
	name string
	*live
}

func newMany(to io.Writer, verbose, color bool) *many {
	return &many{to: to, verbose: verbose, paint: painter(color), told: map[engine.EventState]bool{}}
}

func (d *many) event(e engine.Event) {
	d.events.Lock()
	defer d.events.Unlock()
	line := d.line(e.Node)
	line.take(e)
	stay := d.stay(line, e)
	d.show()
	if len(stay) > 0 {
		_, _ = io.WriteString(d.screen, typedOver+strings.Join(stay, "\n")+"\n")
	}
}

// line returns the moving line of a node.
func (d *many) line(node string) *nodeLine {
	i := slices.IndexFunc(d.nodes, func(l *nodeLine) bool { return l.name == node })
	if i >= 0 {
		return d.nodes[i]
	}
	l := &nodeLine{node, newLive(d.to, false, bool(d.paint))}
	d.nodes = append(d.nodes, l)
	if d.screen != nil {
		d.add(l)
	}
	return l
}

// stay returns the lines that an event leaves behind. What all nodes do alike is shown once.
func (d *many) stay(line *nodeLine, e engine.Event) []string {
	once := func(text string) []string {
		if d.told[e.State] {
			return nil
		}
		d.told[e.State] = true
		return []string{text}
	}
	switch e.State {
	case engine.PhaseStarted:
		return d.enter(e)
	case engine.Finished:
		if d.verbose {
			return []string{line.line("  ", e.Node+": "+e.Operation)}
		}
	case engine.Undone:
		return []string{d.paint.marked(undoneMark, line.line(undoneMark, e.Node+": "+e.Operation))}
	case engine.Noted:
		note := line.line("  ", e.Node+": "+oneLine(e.Message))
		if d.phase == "" || e.Phase != d.phase {
			return []string{note}
		}
		d.below = append(d.below, note)
	case engine.Failed:
		return append(d.drop(), d.paint.red(line.line("✗ ", e.Node+": "+e.Phase+"  "+e.Operation)),
			d.paint.red(line.line("  ", oneLine(e.Error))))
	case engine.Stopped:
		return append(d.drop(), d.paint.yellow(line.line("■ ", e.Node+": "+e.Phase+", interrupted: "+e.Operation)))
	case engine.Committed: // no node is told before all have ended the phase
		return append(d.enter(engine.Event{Time: e.Time}), once(d.paint.bold(line.line("● ", commitText)))...)
	case engine.Ended:
		if !d.told[engine.GoingBack] {
			return d.enter(engine.Event{Time: e.Time}) // the first node that ends says it for all
		}
	case engine.GoingBack:
		d.phase = "" // it does not end well
		return append(d.drop(), once(d.paint.yellow(line.line("↶ ", goingBack(e))))...)
	}
	return nil
}

// enter closes the previous phase: no node begins the next one before all have ended it, except
// where they take turns.
func (d *many) enter(e engine.Event) []string {
	if d.phase == e.Phase {
		return nil
	}
	var lines []string
	if d.phase != "" {
		lines = append(lines, fmt.Sprintf("%s %-20s %s",
			d.paint.green("✓"), d.phase, d.paint.faint(short(e.Time.Sub(d.since)))))
	}
	lines = append(lines, d.drop()...)
	d.phase, d.since = e.Phase, e.Time
	return lines
}

// drop forgets the lines that belong below the phase, and returns them.
func (d *many) drop() []string {
	below := d.below
	d.below = nil
	return below
}

func (d *many) show() {
	if d.screen != nil {
		return
	}
	d.screen = mpb.New(mpb.WithOutput(d.to))
	for _, l := range d.nodes {
		d.add(l)
	}
}

func (d *many) add(l *nodeLine) {
	name := decor.Any(func(decor.Statistics) string { return fmt.Sprintf("%-12s ", fit(l.name, 12)) })
	l.screen = d.screen
	l.bar = d.screen.MustAdd(0, l.filler(), mpb.BarFillerTrim(),
		mpb.PrependDecorators(leftmost(), name, decor.Meta(decor.Any(l.left), l.tint)),
		mpb.AppendDecorators(decor.Any(l.right)))
}

func (d *many) say(text string) {
	d.events.Lock()
	defer d.events.Unlock()
	to := d.to
	if d.screen != nil {
		to = d.screen
	}
	_, _ = io.WriteString(to, typedOver+text+"\n")
}

func (d *many) close() {
	d.events.Lock()
	defer d.events.Unlock()
	if d.screen == nil {
		return
	}
	for _, l := range d.nodes {
		l.bar.Abort(true)
	}
	d.screen.Wait()
	d.screen = nil
	_, _ = io.WriteString(d.to, cleared)
}
