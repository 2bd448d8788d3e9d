package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// page is a result for people, and how wide their terminal is: 0 without one.
type page struct {
	bytes.Buffer
	width int
}

// widthOf is how wide what is written may be; 0 is as wide as it gets.
func widthOf(w io.Writer) int {
	if p, ok := w.(*page); ok {
		return p.width
	}
	return 0
}

// behind writes text behind what stands before it, broken where the terminal ends.
func behind(w io.Writer, before, text string) {
	fmt.Fprint(w, wrapped(before, text, len([]rune(before)), cmp.Or(widthOf(w), math.MaxInt)))
}

// table writes rows with their columns aligned; the first row is the heading.
func table(w io.Writer, rows [][]string) { tableWithin(w, rows, widthOf(w)) }

// tableWithin writes a table; if it is too wide, without the columns that say nothing, then without
// those that matter less, and if that does not help either, each row as a paragraph. 0 is as wide
// as it gets.
func tableWithin(w io.Writer, rows [][]string, width int, lesser ...string) {
	if narrow, fits := narrowed(rows, width, lesser...); fits {
		aligned(w, narrow)
		return
	}
	for i, row := range rows[1:] {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, row[0])
		var facts [][]string
		for j, cell := range row[1:] {
			if cell != "" && cell != "-" {
				facts = append(facts, []string{"  " + strings.ToLower(rows[0][j+1]), cell})
			}
		}
		pairsWithin(w, facts, width)
	}
}

// narrowed leaves out of a table as many columns as it must to fit, and says whether it then does.
func narrowed(rows [][]string, width int, lesser ...string) (narrow [][]string, fits bool) {
	narrow = rows
	for _, name := range append(silent(rows), lesser...) {
		if width > 0 && widest(narrow) > width {
			narrow = without(narrow, name)
		}
	}
	return narrow, width <= 0 || widest(narrow) <= width
}

// pairs writes names, and what is said of each beside it.
func pairs(w io.Writer, rows [][]string) { pairsWithin(w, rows, widthOf(w)) }

func pairsWithin(w io.Writer, rows [][]string, width int) {
	if width <= 0 || widest(rows) <= width {
		aligned(w, rows)
		return
	}
	column := 0
	for _, row := range rows {
		column = max(column, len([]rune(row[0]))+2)
	}
	for _, row := range rows {
		fmt.Fprint(w, wrapped(fmt.Sprintf("%-*s", column, row[0]), row[1], column, width))
	}
}

func aligned(w io.Writer, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	_ = t.Flush()
}

// silent are the columns that say nothing in any row.
func silent(rows [][]string) (names []string) {
	for j, name := range rows[0] {
		if !slices.ContainsFunc(rows[1:], func(row []string) bool { return j < len(row) && row[j] != "-" }) {
			names = append(names, name)
		}
	}
	return names
}

func widest(rows [][]string) (width int) {
	var b strings.Builder
	aligned(&b, rows)
	for _, line := range strings.Split(b.String(), "\n") {
		width = max(width, len([]rune(line)))
	}
	return width
}

// without leaves out the column with that heading.
func without(rows [][]string, heading string) (kept [][]string) {
	i := slices.Index(rows[0], heading)
	if i < 0 {
		return rows
	}
	for _, row := range rows {
		if i < len(row) {
			row = slices.Delete(slices.Clone(row), i, i+1)
		}
		kept = append(kept, row)
	}
	return kept
}

// short writes a duration that was measured. What took any time is not rounded to none.
func short(d time.Duration) string {
	switch {
	case d <= 0:
		return "0s"
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%dms", max(1, d.Milliseconds()))
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// when writes a time in UTC, and how long ago it was.
func when(t, now time.Time) string {
	if t.IsZero() {
		return "not known"
	}
	return fmt.Sprintf("%s (%s)", t.UTC().Format(time.RFC3339), engine.Age(now.Sub(t)))
}

// labelled writes a label and the text beside it, broken at spaces to stay within width columns.
func labelled(w io.Writer, label, text string, width int) {
	const column = 10
	fmt.Fprint(w, wrapped(fmt.Sprintf("%-*s", column, label), text, column, width))
}

// wrapped breaks text, after what stands before it, at spaces to stay within width columns; further
// lines are indented. A command in `…` stays in one piece, so that it can be copied, and begins a
// line rather than run over the end of one.
func wrapped(before, text string, indent, width int) string {
	var b strings.Builder
	line, begun := before, false
	for _, piece := range pieces(text) {
		if begun && len([]rune(line))+1+len([]rune(piece)) > width {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line, begun = strings.Repeat(" ", indent), false
		}
		if begun {
			line += " "
		}
		line, begun = line+piece, true
	}
	return b.String() + line + "\n"
}

// leading is what does not stand on a line alone.
var leading = regexp.MustCompile(`^(- |! |[A-Z][a-z]+( [a-z]+)?: +)`)

// folded breaks the lines that are wider than a terminal, and indents what goes on a little more; a
// width of 0 is none.
func folded(text string, width int) string {
	if width <= 0 {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		if bare := strings.TrimLeft(line, " "); len([]rune(line)) > width+1 {
			indent := len(line) - len(bare)
			bare = strings.TrimRight(bare, "\n")
			label := leading.FindString(bare)
			if rest := bare[len(label):]; indent+2+len([]rune(pieces(rest)[0])) <= width {
				label = "" // a line of its own is wide enough for what stands first
			}
			line = wrapped(line[:indent]+label, bare[len(label):], indent+2, width)
		}
		b.WriteString(line)
	}
	return b.String()
}

// pieces are a text's words, and those in `…` together.
func pieces(text string) (all []string) {
	quoted := false
	for _, word := range strings.Split(text, " ") {
		if quoted {
			all[len(all)-1] += " " + word
		} else {
			all = append(all, word)
		}
		quoted = quoted != (strings.Count(word, "`")%2 == 1)
	}
	return all
}

// fit shortens text to width letters, in the middle: both ends of a path matter.
func fit(text string, width int) string {
	letters := []rune(text)
	if len(letters) <= width {
		return text
	}
	if width < 3 {
		return ""
	}
	tail := (width - 1) / 2
	return string(letters[:width-1-tail]) + "…" + string(letters[len(letters)-tail:])
}

// count writes a number with the word for what it counts.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
