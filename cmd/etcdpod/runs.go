package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
)

func (s *session) runsCommand() *cli.Command {
	return &cli.Command{
		Name: "runs", Usage: "list what etcdpod ran on this node",
		Description: `Every run that changed, or meant to change, this node, the oldest first: when, what was typed, ` +
			`and what became of it. One that is open must be resumed or rolled back before anything else is changed. ` +
			`etcdpod runs show tells more of one.`,
		UsageText: `etcdpod runs`,
		Action:    s.runs,
	}
}

func (s *session) runs(c *cli.Context) error {
	var runs []engine.RunSummary
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		runs, err = n.Runs(c.Context)
		return err
	})
	if err != nil {
		return err
	}
	return s.result(c, runs, func(w io.Writer) { writeRuns(w, runs, time.Now()) })
}

func writeRuns(w io.Writer, runs []engine.RunSummary, now time.Time) {
	if len(runs) == 0 {
		fmt.Fprintln(w, "Nothing was run on this node yet.")
		return
	}
	rows := [][]string{{"RUN", "STATE", "BEGAN", "TYPED"}}
	for _, r := range runs {
		rows = append(rows, []string{r.ID, r.State, when(r.Began, now), strings.Join(r.Command, " ")})
	}
	table(w, rows)
	for _, r := range runs {
		writeOpenRun(w, r)
	}
}

// writeOpenRun says what must be done about an open run, and nothing for other runs.
func writeOpenRun(w io.Writer, r engine.RunSummary) {
	switch r.State {
	case "open":
		open := &engine.OpenRunError{Run: r}
		fmt.Fprintf(w, "\n%s stopped in %s, at: %s\nNext: %s.\n", r.ID, r.Phase, r.Operation, open.Hint())
	case "running":
		fmt.Fprintf(w, "\n%s is under way, in %s, at: %s\n", r.ID, r.Phase, r.Operation)
	case "damaged":
		fmt.Fprintf(w, "\n%s cannot be read: %s\n", r.ID, r.Error)
	}
}

// watchRun does work that is one run, and returns its summary.
func (s *session) watchRun(c *cli.Context, work func(*phases.Node, display) error) (engine.RunSummary, error) {
	var run engine.RunSummary
	err := s.onNode(c, func(n *phases.Node, show display) error {
		if err := work(n, show); err != nil {
			return err
		}
		runs, err := n.Runs(c.Context)
		if len(runs) > 0 {
			run = runs[len(runs)-1]
		}
		return err
	})
	return run, err
}
