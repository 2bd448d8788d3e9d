package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
)

func init() {
	offer(sectionRuns, (*session).runsShowCommand)
}

func (s *session) runsShowCommand() *cli.Command {
	return &cli.Command{
		Name: "runs show", ArgsUsage: "[RUN]",
		Usage: "show one run: what was typed, each operation with its time, what failed",
		Description: `RUN is a run's ID, or enough of it to be unique; without it, the newest run is shown. It is read from this node's journal, which etcdpod prune leaves in place; in a run on several nodes, each node has its own.

With --follow, a run that is under way, in a terminal that was closed or that somebody else started, is shown until its end as it would have been there. The exit code is then 0 if the run was finished, 1 if it was rolled back, and 3 if it is left open. Ctrl-C stops following, not the run.`,
		UsageText: `etcdpod runs show
etcdpod runs show 20260801T020000Z-restore-3f1a
etcdpod runs show --follow`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"},
				Usage: "show what a run under way does, until it ends"},
		},
		Action: s.showRun,
	}
}

func (s *session) showRun(c *cli.Context) error {
	var report engine.RunReport
	follow := c.Bool("follow")
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		if follow {
			report, err = n.Engine().Follow(c.Context, c.Args().First())
		} else {
			report, err = n.Engine().Show(c.Context, c.Args().First())
		}
		return err
	})
	if err != nil {
		return err
	}
	width := 0 // in a file or a pipe: no bars
	if isTerminal(s.stdout) {
		width = columnsOf(s.stdout)
	}
	var result any = &report
	if follow && asJSON(c) {
		result = outcome{Result: report}
	}
	if err := s.result(c, result, func(w io.Writer) { writeRun(w, report, time.Now(), width) }); err != nil || !follow {
		return err
	}
	switch report.State {
	case "rolled back":
		return foundError(exitFailed)
	case "open", "damaged":
		return foundError(exitOpenRun)
	}
	return nil
}

// writeRun shows a run; width is the terminal's, and 0 without one.
func writeRun(w io.Writer, r engine.RunReport, now time.Time, width int) {
	fmt.Fprintf(w, "%s: %s\n\n", r.ID, r.State)
	if r.Error != "" { // its journal cannot be read
		writeOpenRun(w, r.RunSummary)
		return
	}
	rows := [][]string{{"typed", strings.Join(r.Command, " ")}, {"node", r.Node}}
	if len(r.Nodes) > 0 {
		rows = append(rows, []string{"nodes", strings.Join(r.Nodes, ", ") +
			"; each has its own journal, and this is " + r.Node + "'s"})
	}
	rows = append(rows, []string{"began", when(r.Began, now)})
	if r.State == "completed" || r.State == "rolled back" {
		rows = append(rows, []string{"ended", fmt.Sprintf("%s, after %s", r.Last.UTC().Format(time.RFC3339),
			short(r.Last.Sub(r.Began)))})
	} else {
		rows = append(rows, []string{"last record", when(r.Last, now)})
	}
	if r.Reason != "" {
		rows = append(rows, []string{"rolled back", "because " + oneLine(r.Reason)})
	}
	rows = append(rows, []string{"folder", r.Path}, []string{"version", "etcdpod " + r.Version})
	for _, key := range slices.Sorted(maps.Keys(r.Notes)) {
		rows = append(rows, []string{cmp.Or(noteLabels[key], key), r.Notes[key]})
	}
	pairs(w, rows)
	writeTimeline(w, r, width)
	writeOpenRun(w, r.RunSummary)
}

// noteLabels says for people what a run noted under a name that programs read.
var noteLabels = map[string]string{"keptData": "kept data", "keptWAL": "kept WAL", "leftOut": "left out",
	"oldURLs": "old URLs", "revision": "revision before"}

// barColumns is how wide the whole run is drawn.
const barColumns = 24

// writeTimeline shows each operation: when it began, how long it took, and, on a terminal that is
// wide enough, a bar at its place in the whole run.
func writeTimeline(w io.Writer, r engine.RunReport, width int) {
	phase := ""
	committed := r.CommittedAt.IsZero()
	for _, o := range r.Operations {
		if !committed && (o.Began.IsZero() || o.Began.After(r.CommittedAt)) {
			fmt.Fprintf(w, "--- commit point, %s ---\n", clock(r.CommittedAt))
			committed = true
		}
		if o.Phase != phase {
			phase = o.Phase
			fmt.Fprintf(w, "\n%s\n", phase)
		}
		left := fmt.Sprintf("  %-9s %6s  ", clock(o.Began), took(o.Began, o.Ended))
		if width >= 70 {
			left += bar(r, o) + "  "
		}
		if width == 0 || utf8.RuneCountInString(left+o.Operation) <= width {
			fmt.Fprintln(w, left+o.Operation)
		} else { // below, so that nothing of it is cut
			fmt.Fprintf(w, "%s\n%s", strings.TrimRight(left, " "), wrapped("    ", o.Operation, 4, width))
		}
		writeWhatBecame(w, o, width)
	}
	if !committed {
		fmt.Fprintf(w, "--- commit point, %s ---\n", clock(r.CommittedAt))
	}
}

// writeWhatBecame says what an operation reported, and what did not go as planned.
func writeWhatBecame(w io.Writer, o engine.OperationReport, width int) {
	indent := 20
	if width > 0 && width < 70 {
		indent = 4
	}
	say := func(format string, args ...any) {
		fmt.Fprintf(w, strings.Repeat(" ", indent)+format+"\n", args...)
	}
	for _, note := range o.Notes {
		say("note: %s", oneLine(note))
	}
	for _, failed := range o.Errors {
		say("FAILED: %s", oneLine(failed))
	}
	switch o.State {
	case "done":
		if len(o.Errors) > 0 {
			say("done in the end, %s", clock(o.Ended))
		}
	case "started":
		say("no record of its end")
	case "undoing":
		say("being undone since %s", clock(o.UndoBegan))
	case "undone":
		say("undone %s, in %s", clock(o.UndoBegan), took(o.UndoBegan, o.UndoEnded))
	}
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("15:04:05Z")
}

func took(began, ended time.Time) string {
	if began.IsZero() || ended.IsZero() {
		return "-"
	}
	return short(ended.Sub(began))
}

// bar draws an operation at its place in the run.
func bar(r engine.RunReport, o engine.OperationReport) string {
	whole := r.Last.Sub(r.Began)
	if o.Began.IsZero() || whole <= 0 {
		return strings.Repeat(" ", barColumns)
	}
	ended := o.Ended
	if ended.IsZero() {
		ended = r.Last
	}
	at := func(t time.Time) int {
		return min(max(int(int64(barColumns)*int64(t.Sub(r.Began))/int64(whole)), 0), barColumns)
	}
	from := min(at(o.Began), barColumns-1)
	to := max(at(ended), from+1)
	return strings.Repeat("·", from) + strings.Repeat("█", to-from) + strings.Repeat("·", barColumns-to)
}
