package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// table writes rows with their columns aligned; the first row is the heading.
func table(w io.Writer, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	_ = t.Flush()
}

// tableWithin writes a table; if it is too wide, without the columns that say nothing, then without
// those that matter less, and if that does not help either, each row as a paragraph. 0 is as wide
// as it gets.
func tableWithin(w io.Writer, rows [][]string, width int, lesser ...string) {
	narrow := rows
	for _, name := range append(silent(rows), lesser...) {
		if width > 0 && widest(narrow) > width {
			narrow = without(narrow, name)
		}
	}
	if width <= 0 || widest(narrow) <= width {
		table(w, narrow)
		return
	}
	for i, row := range rows[1:] {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, row[0])
		var facts [][]string
		for j, cell := range row[1:] {
			name := "  " + strings.ToLower(rows[0][j+1])
			for _, part := range strings.FieldsFunc(cell, func(r rune) bool { return r == ',' || r == ';' }) {
				if part != "-" {
					facts = append(facts, []string{name, strings.TrimSpace(part)})
				}
				name = ""
			}
		}
		table(w, facts)
	}
}

// silent are the columns that say nothing in any row.
func silent(rows [][]string) (names []string) {
	for j, name := range rows[0] {
		if !slices.ContainsFunc(rows[1:], func(row []string) bool { return row[j] != "-" }) {
			names = append(names, name)
		}
	}
	return names
}

func widest(rows [][]string) (width int) {
	var b strings.Builder
	table(&b, rows)
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
		kept = append(kept, slices.Delete(slices.Clone(row), i, i+1))
	}
	return kept
}

// size writes bytes as people read them.
func size(bytes int64) string {
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	value, unit := float64(bytes)/1024, "KiB"
	for _, next := range []string{"MiB", "GiB", "TiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, next
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}

// short writes a duration.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
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
	return fmt.Sprintf("%s (%s)", t.UTC().Format(time.RFC3339), ago(now.Sub(t)))
}

func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
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
