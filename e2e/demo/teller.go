package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// teller sets text for the terminal.
type teller struct {
	to    io.Writer
	width int // columns
	color bool
	pause bool

	paused time.Duration // so far
}

// The looks, as SGR codes.
const (
	bold  = "1"
	dim   = "2"
	green = "32"
	red   = "31"
	cyan  = "1;36"
)

func (t *teller) paint(look, text string) string {
	if !t.color {
		return text
	}
	return "\x1b[" + look + "m" + text + "\x1b[0m"
}

// heading begins a chapter.
func (t *teller) heading(text string) {
	fmt.Fprintf(t.to, "\n%s\n", t.paint(bold, text))
}

// say sets a paragraph.
func (t *teller) say(format string, args ...any) {
	const prose = 78 // columns that are read well
	text := fmt.Sprintf(format, args...)
	column := 0
	for _, word := range strings.Fields(text) {
		switch length := utf8.RuneCountInString(word); {
		case column == 0:
			column = length
		case column+1+length > min(prose, t.width):
			fmt.Fprintln(t.to)
			column = length
		default:
			fmt.Fprint(t.to, " ")
			column += 1 + length
		}
		fmt.Fprint(t.to, word)
	}
	fmt.Fprintln(t.to)
	t.read(text)
}

// command shows what is typed.
func (t *teller) command(line string) {
	fmt.Fprintf(t.to, "\n  %s\n", t.paint(cyan, "$ "+line))
}

// line shows one line that a command wrote: advice is wrapped at the terminal's width,
// anything else is cut.
func (t *teller) line(text string) {
	room := t.width - 4
	advice := lines("Next:", "hint:", "etcdpod:", "  ! ")(text)
	for utf8.RuneCountInString(text) > room {
		at := strings.LastIndex(string([]rune(text)[:room]), " ")
		if !advice || at < room/2 {
			text = string([]rune(text)[:room-1]) + "…"
			break
		}
		fmt.Fprintf(t.to, "    %s\n", t.paint(dim, text[:at]))
		text = "      " + text[at+1:]
	}
	fmt.Fprintf(t.to, "    %s\n", t.paint(dim, text))
}

// output shows those lines that hold one of the words, and dots for those between.
func (t *teller) output(words ...string) func(string) {
	return func(text string) {
		left, keep := false, lines(words...)
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\n ")
			if !keep(line) {
				left = left || line != ""
				continue
			}
			if left {
				t.line("…")
				left = false
			}
			t.line(line)
		}
		if left {
			t.line("…")
		}
		t.read(text)
	}
}

// outline shows a plan: its phases, and how many operations they have.
func (t *teller) outline(text string) {
	operations := 0
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n ")
		if strings.HasPrefix(line, "  - ") {
			operations++
			continue
		}
		if line != "" {
			t.line(line)
		}
	}
	t.line(fmt.Sprintf("… and under its phases %d operations, each in a line of its own", operations))
	t.read(text)
}

// good notes that something is as it should be.
func (t *teller) good(format string, args ...any) { t.mark(t.paint(green, "✓"), format, args...) }

// bad notes what was broken on purpose.
func (t *teller) bad(format string, args ...any) { t.mark(t.paint(red, "✗"), format, args...) }

func (t *teller) mark(mark, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for room := t.width - 4; utf8.RuneCountInString(text) > room; mark = " " {
		at := strings.LastIndex(string([]rune(text)[:room]), " ")
		if at < room/2 {
			break
		}
		fmt.Fprintf(t.to, "  %s %s\n", mark, text[:at])
		text = text[at+1:]
	}
	fmt.Fprintf(t.to, "  %s %s\n", mark, text)
}

// read waits as long as reading a text takes, up to a few seconds.
func (t *teller) read(text string) {
	if t.pause {
		pause := min(time.Duration(len(strings.Fields(text)))*200*time.Millisecond, 6*time.Second)
		time.Sleep(pause)
		t.paused += pause
	}
}

// lines tells those that hold one of the words.
func lines(words ...string) func(string) bool {
	return func(line string) bool {
		for _, word := range words {
			if strings.Contains(line, word) {
				return true
			}
		}
		return false
	}
}
