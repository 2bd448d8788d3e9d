package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
)

// change is a command that changes a running node by one workflow.
type change struct {
	workflow phases.Workflow
	// said is printed when the run is done, with its id: one sentence or more.
	said string
	// unchanged is printed instead if there was nothing to do; empty if there always is something.
	unchanged string
	// needs is a file on this machine without which nothing can be done; empty if there is none.
	needs string
}

// errNothingToDo ends a command whose plan is empty: all is as it should be.
var errNothingToDo = errors.New("nothing to do")

// carryOut shows what a command would do, or does it after a yes, and reports the result.
func (s *session) carryOut(c *cli.Context, change change) error {
	if err := change.workflow.Checked(); err != nil {
		return err
	}
	if err := s.asRoot(c); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return s.preview(c, change.workflow, change.unchanged)
	}
	if err := s.mayAsk(c); err != nil {
		return cmp.Or(s.lacking(c, change), err)
	}
	run, err := s.watchRun(c, func(n *phases.Node, show display) error {
		return n.Do(c.Context, change.workflow, func(plan engine.Plan) error {
			if change.unchanged != "" && plan.Empty() {
				return errNothingToDo
			}
			visibleIn(&plan)
			s.yesTo(c, warned(plan))
			return s.confirm(c, show, func(w io.Writer) {
				if c.Bool("verbose") {
					writePlan(w, plan)
				} else {
					writeLines(w, found(plan), s.width())
				}
				writeStakes(w, plan.Stakes, s.width())
			})
		})
	})
	if errors.Is(err, errNothingToDo) {
		s.doneWithNothing(c, change.workflow.String(), change.unchanged)
		return nil
	}
	if err != nil {
		return err
	}
	s.doneWith(c, run.RunSummary, func(w io.Writer) {
		run.write(w, fmt.Sprintf(change.said, run.ID), breakAt(s.stdout))
	})
	return nil
}

// doneWithNothing reports a command that had nothing to do.
func (s *session) doneWithNothing(c *cli.Context, workflow, says string) {
	unchanged := engine.RunSummary{Workflow: workflow, State: "unchanged"}
	s.doneWith(c, unchanged, func(w io.Writer) { fmt.Fprintln(w, says) })
}

// lacking says that the file which a change needs is not there, as carrying it out would: that is
// known before anybody is asked.
func (s *session) lacking(c *cli.Context, change change) error {
	if _, err := os.Stat(change.needs); change.needs == "" || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.onNode(c, func(n *phases.Node, _ display) error {
		_, err := n.Preview(c.Context, change.workflow)
		return err
	})
}

// yesTo has what planning found shown with the run, to who has said yes to whatever it may be.
func (s *session) yesTo(c *cli.Context, found []engine.Finding) {
	if !c.Bool("yes") {
		return
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	s.unseen = found
}

// warned is what planning has found out that somebody should know or do something about.
func warned(plan engine.Plan) (all []engine.Finding) {
	for _, p := range plan.Phases {
		all = append(all, p.Findings...)
	}
	return all
}

// confirm asks for a yes, unless it was given beforehand. It closes the display before asking.
func (s *session) confirm(c *cli.Context, show display, what func(io.Writer)) error {
	if c.Bool("yes") {
		return nil
	}
	show.close()
	return s.ask(c.Context, what)
}
