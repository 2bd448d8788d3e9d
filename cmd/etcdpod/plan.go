package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
)

// writePlan shows the phases that have something to do or to tell, with their operations, and where
// the commit point is.
func writePlan(w io.Writer, plan engine.Plan) {
	for _, p := range plan.Phases {
		if len(p.Operations)+len(p.Found) == 0 {
			continue
		}
		fmt.Fprintf(w, "%-20s %s\n", p.Name, p.Short)
		for _, found := range p.Found {
			fmt.Fprintf(w, "  %s\n", found)
		}
		for _, o := range p.Operations {
			fmt.Fprintf(w, "  - %s\n", o)
		}
		if p.Commit {
			fmt.Fprintln(w, "--- commit point: a failure before it undoes everything; after it the run can only go "+
				"forward ---")
		}
	}
}

// found is what planning has found out.
func found(plan engine.Plan) (lines []string) {
	for _, p := range plan.Phases {
		lines = append(lines, p.Found...)
	}
	return lines
}

func writeLines(w io.Writer, lines []string, width int) {
	for _, line := range lines {
		fmt.Fprint(w, wrapped("- ", line, 2, width))
	}
}

// writeStakes says what a yes means: what is lost, how long the API server is away, and how to come
// back.
func writeStakes(w io.Writer, st engine.Stakes, width int) {
	if len(st.Lost)+len(st.Back) == 0 && st.AwaySeconds == 0 {
		return
	}
	fmt.Fprintln(w)
	labels := func(label string, lines []string) {
		for _, line := range lines {
			labelled(w, label, line, width)
			label = ""
		}
	}
	labels("Lost:", st.Lost)
	if st.AwaySeconds > 0 {
		labels("Outage:", []string{outageText(st)})
	}
	labels("Way back:", st.Back)
}

func outageText(st engine.Stakes) string {
	text := "the API server"
	switch n := len(st.AwayNodes); {
	case n > 1:
		text = fmt.Sprintf("the API servers on %s and %s are", strings.Join(st.AwayNodes[:n-1], ", "),
			st.AwayNodes[n-1])
	case n == 1:
		text += fmt.Sprintf(" on %s is", st.AwayNodes[0])
	default:
		text += " is"
	}
	text += " down for about " + engine.Roughly(engine.Seconds(st.AwaySeconds))
	if st.InTurn {
		text += " each, one at a time"
	}
	if st.Earlier != "" {
		text += ", as in run " + st.Earlier
	}
	return text
}

// preview is --dry-run for a workflow.
//
// unchanged is what is said where there is nothing to do; empty: there always is something.
func (s *session) preview(c *cli.Context, w phases.Workflow, unchanged string) error {
	var plan engine.Plan
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		plan, err = n.Preview(c.Context, w)
		return err
	})
	if err != nil {
		return err
	}
	return s.shown(c, plan, unchanged)
}

func (s *session) shown(c *cli.Context, plan engine.Plan, unchanged string) error {
	return s.result(c, &plan, func(out io.Writer) {
		writePlan(out, plan)
		if unchanged != "" && plan.Empty() {
			fmt.Fprintln(out, unchanged)
			return
		}
		writeStakes(out, plan.Stakes, s.width())
		fmt.Fprintf(out, "\nNothing was changed. Without --dry-run, %s does the above.\n", c.Command.Name)
	})
}

// mayAsk refuses, before any work, a command that needs an answer when nobody can give it.
func (s *session) mayAsk(c *cli.Context) error {
	if c.Bool("yes") || isTerminal(s.stdin) && isTerminal(s.stdout) {
		return nil
	}
	return &engine.UsageError{
		Reason: fmt.Sprintf("%s needs confirmation and there is no terminal: add --yes", c.Command.Name),
		Hint:   "--dry-run shows what would be done",
	}
}

var errNoAnswer = errors.New("interrupted; nothing was touched")

var errSaidNo = errors.New("you did not say yes; nothing was touched")

// width is that of what is written for people to read, even if it is kept.
func (s *session) width() int { return min(columnsOf(s.stderr), 100) }

// breakAt is where lines are broken: at the edge of a terminal, and nowhere for a script.
func breakAt(to io.Writer) int {
	if !isTerminal(to) {
		return math.MaxInt
	}
	return columnsOf(to)
}

// ask shows what would be done, and goes on only after a yes.
func (s *session) ask(ctx context.Context, plan func(io.Writer)) error {
	b := page{width: s.width()}
	plan(&b)
	fmt.Fprint(s.stderr, folded(visibleLines(b.String()), columns(s.stderr)))
	fmt.Fprintf(s.stderr, "\nContinue? (y or yes) ")
	answer, err := s.answer(ctx)
	if err != nil {
		return err
	}
	if word := strings.ToLower(strings.TrimSpace(answer)); word != "yes" && word != "y" {
		return errSaidNo
	}
	return nil
}

// answer reads a line, and stops at an interrupt.
func (s *session) answer(ctx context.Context) (string, error) {
	answers := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(s.stdin).ReadString('\n')
		answers <- text
	}()
	select {
	case text := <-answers:
		return text, nil
	case <-ctx.Done():
		fmt.Fprintln(s.stderr) // the terminal has written ^C behind the question
		return "", errNoAnswer
	}
}
