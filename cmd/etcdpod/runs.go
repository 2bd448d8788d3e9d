package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/status"
	"github.com/etcdpod/etcdpod/phases/together"
)

func init() {
	offer(sectionRuns, (*session).runsCommand)
}

func (s *session) runsCommand() *cli.Command {
	return &cli.Command{
		Name: "runs", Usage: "list what etcdpod did on this node",
		Description: `Every run that changed this node or set out to, oldest first: when it ran, what was typed, and ` +
			`how it ended. An open run must be resumed or rolled back before anything else is changed. etcdpod runs ` +
			`show has the details of one run.`,
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
		fmt.Fprintln(w, "Nothing has been run on this node yet.")
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

// watchRun does work that is one run, and returns its summary. What the run has let run again is
// waited for: a person asks for the status next.
func (s *session) watchRun(c *cli.Context, work func(*phases.Node, display) error) (ended, error) {
	var run ended
	err := s.onNode(c, func(n *phases.Node, show display) error {
		if err := work(n, show); err != nil {
			return err
		}
		runs, err := n.Runs(c.Context)
		if len(runs) > 0 {
			run.RunSummary = runs[len(runs)-1]
		}
		run.outages = n.Outages()
		if run.Stopped() {
			run.down = status.AwaitStarted(c.Context, n.Look, run.RunSummary)
		}
		return err
	})
	return run, err
}

// ended is a run that this command has carried out to its end.
type ended struct {
	engine.RunSummary
	down []string // what does not run although it should by now
	// Of a run on several nodes, each node whose API server was down.
	outages []together.Outage
}

// write says what was done, and how long it took.
func (e ended) write(w io.Writer, said string, width int) {
	said += " It took " + short(e.Last.Sub(e.Began))
	said += e.outage()
	fmt.Fprint(w, wrapped("", said+".", 0, width))
	if len(e.down) > 0 {
		fmt.Fprintf(w, "Not running yet: %s. `etcdpod status` has details.\n", strings.Join(e.down, ", "))
	}
}

// outage says for how long which API server was down.
func (e ended) outage() string {
	each := each(e.outages, func(o together.Outage) string {
		return short(engine.Seconds(o.Seconds)) + " on " + o.Node
	})
	switch n := len(each); {
	case n == 1:
		return fmt.Sprintf("; the API server on %s was down for %s", e.outages[0].Node,
			short(engine.Seconds(e.outages[0].Seconds)))
	case n > 1:
		return fmt.Sprintf("; the API servers were down for %s and %s", strings.Join(each[:n-1], ", "), each[n-1])
	case e.APIAwaySeconds > 0:
		return "; the API server was down for " + short(engine.Seconds(e.APIAwaySeconds))
	}
	return ""
}
