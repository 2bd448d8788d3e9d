package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
)

// writePlan shows the phases with their operations, and where the commit point is.
func writePlan(w io.Writer, plan engine.Plan) {
	for _, p := range plan.Phases {
		fmt.Fprintf(w, "%-20s %s\n", p.Name, p.Short)
		for _, found := range p.Found {
			fmt.Fprintf(w, "  %s\n", found)
		}
		for _, o := range p.Operations {
			fmt.Fprintf(w, "  - %s\n", o)
		}
		if p.Commit {
			fmt.Fprintln(w, "--- commit point: until here a failure takes everything back; from "+
				"here on the run can only go forward ---")
		}
	}
}

// preview is --dry-run for a workflow.
func (s *session) preview(c *cli.Context, w phases.Workflow) error {
	return s.show(c, func(n *phases.Node) (engine.Plan, error) { return n.Preview(c.Context, w) })
}

// show prints a plan instead of carrying it out.
func (s *session) show(c *cli.Context, planned func(*phases.Node) (engine.Plan, error)) error {
	var plan engine.Plan
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		plan, err = planned(n)
		return err
	})
	if err != nil {
		return err
	}
	return s.shown(c, plan)
}

func (s *session) shown(c *cli.Context, plan engine.Plan) error {
	return s.result(c, &plan, func(out io.Writer) {
		writePlan(out, plan)
		fmt.Fprintf(out, "\nNothing was changed. Without --dry-run, %s carries out the above.\n", c.Command.Name)
	})
}

// mayAsk refuses, before any work, a command that needs an answer when nobody can give it.
func (s *session) mayAsk(c *cli.Context) error {
	if c.Bool("yes") || isTerminal(s.stdin) && isTerminal(s.stdout) {
		return nil
	}
	return &engine.UsageError{
		Reason: fmt.Sprintf("cannot ask whether to %s: this is no terminal", c.Command.Name),
		Hint:   "add --yes to go on without being asked, or --dry-run to see what would be done",
	}
}

var errSaidNo = errors.New("stopped, as you did not say yes; nothing was touched")

// ask shows what would be done, and goes on only after a yes.
func (s *session) ask(ctx context.Context, plan func(io.Writer)) error {
	var b bytes.Buffer
	plan(&b)
	fmt.Fprint(s.stderr, visibleLines(b.String()))
	fmt.Fprintf(s.stderr, "\nGo on? Type yes: ")
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
		return "", errSaidNo
	}
}
