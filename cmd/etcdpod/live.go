package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// live shows a run on a terminal: what is over as lines that stay, and below them one moving line
// for the current operation.
type live struct {
	events  sync.Mutex // one event at a time
	to      io.Writer
	verbose bool
	paint   painter
	screen  *mpb.Progress // nil while nothing is shown
	bar     *mpb.Bar

	// Guards now, which mpb reads while it draws. Never held while writing to screen,
	// which waits for drawing.
	mu  sync.Mutex
	now moment
}

// moment is what the moving line shows.
type moment struct {
	phase     string
	since     time.Time // when the phase began
	operation string
	from      time.Time // when the operation began
	back      bool
	done      int64
	total     int64    // 0: not known
	below     []string // lines to print when the phase is over, below its name
}

func newLive(to io.Writer, verbose, color bool) *live {
	return &live{to: to, verbose: verbose, paint: painter(color)}
}

func (l *live) event(e engine.Event) {
	l.events.Lock()
	defer l.events.Unlock()
	lines := l.take(e)
	if e.State == engine.Ended {
		l.hide()
		l.write(l.to, lines)
		return
	}
	l.show()
	l.write(l.screen, lines)
}

// typedOver begins what is drawn: the terminal itself shows ^C, which moves the cursor, and mpb
// expects it at the left.
const typedOver = "\r"

func (l *live) write(to io.Writer, lines []string) {
	if len(lines) > 0 {
		_, _ = io.WriteString(to, typedOver+strings.Join(lines, "\n")+"\n")
	}
}

// take updates the moving line, and returns the lines that stay.
func (l *live) take(e engine.Event) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.State {
	case engine.PhaseStarted:
		return l.enter(e)
	case engine.Started, engine.Undoing:
		l.begin(e)
	case engine.Progressed:
		var lines []string
		if l.now.phase != e.Phase {
			lines = l.enter(e)
		}
		if l.now.operation != e.Operation {
			l.begin(e)
		}
		l.now.done, l.now.total = e.Done, e.Total
		return lines
	case engine.Finished:
		if l.verbose {
			l.now.below = append(l.now.below, l.finished("  ", e))
		}
	case engine.Undone:
		return []string{l.paint.marked(undoneMark, l.finished(undoneMark, e))}
	case engine.Noted:
		l.now.below = append(l.now.below, l.line("  ", oneLine(e.Message)))
	case engine.Failed:
		return append([]string{l.paint.red(l.line("✗ ", e.Phase+"  "+e.Operation)),
			l.paint.red(l.line("  ", oneLine(e.Error)))}, l.drop()...)
	case engine.Stopped:
		return append([]string{l.paint.yellow(l.line("■ ", e.Phase+", interrupted: "+e.Operation))}, l.drop()...)
	case engine.Committed:
		return append(l.leave(e), l.paint.bold(l.line("● ", commitText)))
	case engine.GoingBack:
		l.now.back = true
		return append(l.drop(), l.paint.yellow(l.line("↶ ", goingBack(e))))
	case engine.Ended:
		if l.now.back {
			return append(l.drop(), l.paint.yellow("↶ "+wentBack(e)))
		}
		return l.leave(e)
	}
	return nil
}

func (l *live) enter(e engine.Event) []string {
	lines := l.leave(e)
	l.now = moment{phase: e.Phase, since: e.Time, from: e.Time, operation: e.Operation, back: l.now.back}
	return lines
}

// leave closes the current phase.
func (l *live) leave(e engine.Event) []string {
	if l.now.phase == "" {
		return l.drop()
	}
	over := fmt.Sprintf("%s %-20s %s", l.paint.green("✓"), l.now.phase, l.paint.faint(short(e.Time.Sub(l.now.since))))
	return append([]string{over}, l.drop()...)
}

// drop forgets the current phase, and returns the lines that belong below it.
func (l *live) drop() []string {
	below := l.now.below
	l.now = moment{back: l.now.back}
	return below
}

func (l *live) begin(e engine.Event) {
	l.now.operation, l.now.from, l.now.done, l.now.total = e.Operation, e.Time, 0, 0
	if l.now.phase != e.Phase {
		l.now.phase, l.now.since = e.Phase, e.Time
	}
}

// undoneMark stands before an operation that has been undone.
const undoneMark = "↶ undone: "

// finished is an operation that has ended, and how long it took. It stays, so nothing of it is cut.
func (l *live) finished(mark string, e engine.Event) string {
	return l.line(mark, e.Operation+" "+short(e.Time.Sub(l.now.from)))
}

// line is text behind a mark, broken to fit.
func (l *live) line(mark, text string) string {
	return strings.TrimSuffix(wrapped(mark, text, 2, l.width()), "\n")
}

func (l *live) width() int { return columnsOf(l.to) }

// columnsOf is for how wide a terminal what is written is made.
func columnsOf(stream any) int { return cmp.Or(columns(stream), 80) }

// columns is how wide a terminal is; 0 for what is no terminal.
func columns(to any) int {
	if f, ok := to.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			return w
		}
	}
	return 0
}

// rows is how high a terminal is; 0 for what is no terminal.
func rows(to any) int {
	if f, ok := to.(*os.File); ok {
		if _, h, err := term.GetSize(int(f.Fd())); err == nil {
			return h
		}
	}
	return 0
}

func (l *live) show() {
	if l.screen != nil {
		return
	}
	l.screen = mpb.New(mpb.WithOutput(l.to))
	l.bar = l.screen.MustAdd(0, l.filler(), mpb.BarFillerTrim(), mpb.PrependDecorators(leftmost(),
		decor.Meta(decor.Any(l.left), l.tint)), mpb.AppendDecorators(decor.Any(l.right)))
}

func leftmost() decor.Decorator {
	return decor.Any(func(decor.Statistics) string { return typedOver })
}

// filler draws the bar, if the total is known.
func (l *live) filler() mpb.BarFiller {
	bar := mpb.BarStyle().Lbound("▕").Filler("█").Tip("█").Padding(" ").Rbound("▏").Build()
	return mpb.BarFillerFunc(func(w io.Writer, st decor.Statistics) error {
		now := l.moment()
		if now.total <= 0 {
			return nil
		}
		st.Current, st.Total = min(now.done, now.total), now.total
		st.RequestedWidth = 24
		return bar.Fill(w, st)
	})
}

func (l *live) moment() moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// left is the moving line before the bar: the current work.
func (l *live) left(st decor.Statistics) string {
	now := l.moment()
	beats := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	mark, name := string(beats[time.Now().UnixMilli()/150%int64(len(beats))]), now.phase
	if now.back {
		mark, name = "↶ "+mark, "undoing "+name
	}
	text := fmt.Sprintf("%s %-20s ", mark, name)
	const rightSide, bar = 32, 26
	room := st.AvailableWidth - rightSide - len([]rune(text))
	if now.total > 0 {
		room -= bar
	}
	return text + fit(now.operation, room)
}

// tint colours the moving line on the way back.
func (l *live) tint(text string) string {
	if l.moment().back {
		return l.paint.yellow(text)
	}
	return text
}

// right is what follows the bar: how much, and for how long.
func (l *live) right(decor.Statistics) string {
	now := l.moment()
	if now.from.IsZero() {
		return ""
	}
	text := "  " + short(time.Since(now.from))
	if now.total > 0 || now.done > 0 {
		text = "  " + amount(now.done, now.total) + text
	}
	return text
}

// cleared follows the last moving line.
const cleared = typedOver + "\x1b[J"

func (l *live) hide() {
	if l.screen == nil {
		return
	}
	l.bar.Abort(true)
	l.screen.Wait()
	l.screen = nil
	_, _ = io.WriteString(l.to, cleared)
}

// say writes above the moving line, or instead of it.
func (l *live) say(text string) {
	l.events.Lock()
	defer l.events.Unlock()
	to := l.to
	if l.screen != nil {
		to = l.screen
	}
	l.write(to, []string{text})
}

// close ends drawing. What was under way is forgotten: what comes after a question has not lasted
// as long as that was open.
func (l *live) close() {
	l.events.Lock()
	defer l.events.Unlock()
	l.hide()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop()
}

// painter colours text, or leaves it.
type painter bool

func (p painter) red(text string) string    { return p.with("31", text) }
func (p painter) green(text string) string  { return p.with("32", text) }
func (p painter) yellow(text string) string { return p.with("33;1", text) }
func (p painter) bold(text string) string   { return p.with("1", text) }
func (p painter) faint(text string) string  { return p.with("2", text) }

func (p painter) with(code, text string) string {
	if !p {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// marked is text with the mark at its head in yellow.
func (p painter) marked(mark, text string) string {
	return p.yellow(mark) + strings.TrimPrefix(text, mark)
}
