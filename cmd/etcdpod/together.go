package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/restore"
	"github.com/etcdpod/etcdpod/phases/together"
)

func sshCommandFlag() cli.Flag {
	return &cli.StringFlag{Name: "ssh-command", Value: "ssh",
		Usage: "reach the other nodes by `COMMAND`; the host and the remote command follow it"}
}

func remoteCommandFlag() cli.Flag {
	return &cli.StringFlag{Name: "remote-command", Value: "etcdpod",
		Usage: "run etcdpod on the other nodes as `COMMAND`, such as \"sudo -n etcdpod\""}
}

// restoreTogether is restore on several nodes.
func (s *session) restoreTogether(c *cli.Context) error {
	options, err := s.togetherOptions(c)
	if err != nil {
		return err
	}
	return s.jointly(c, joint{
		plan: restore.Together(options),
		said: fmt.Sprintf("Restored on %s by run %%s. What it replaced is kept on each node until `etcdpod prune`.",
			count(max(1, len(options.Nodes)), "node", "nodes")),
	})
}

// joint is a command that changes several nodes as one run.
type joint struct {
	plan together.Planner
	said string // when it is done, with the run's id for %s
	// instead is said then where it depends on the plan; empty: what stands above.
	instead  func(engine.TogetherPlan) string
	workflow string
	// unchanged is printed instead if there was nothing to do; empty if there always is something.
	unchanged string
}

// jointly previews a joint workflow, or asks and carries it out.
func (s *session) jointly(c *cli.Context, j joint) error {
	if err := s.asRoot(c); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return s.previewJoint(c, j)
	}
	if err := s.mayAsk(c); err != nil {
		return err
	}
	var seen engine.TogetherPlan
	run, err := s.watchRun(c, func(n *phases.Node, show display) error {
		return j.plan.CarryOut(c.Context, n.Several(), func(plan engine.TogetherPlan) error {
			seen = plan
			if j.unchanged != "" && plan.Empty() {
				return errNothingToDo
			}
			visibleIn(&plan)
			found := slices.Clone(plan.Findings)
			for _, n := range plan.Nodes {
				found = append(found, warned(n.Plan)...)
			}
			s.yesTo(c, found)
			err := s.confirm(c, show, func(w io.Writer) {
				writeTogether(w, plan, c.Bool("verbose"), s.width())
				writeStakes(w, plan.Stakes, s.width())
			})
			if err != nil || plan.Risk == "" {
				return err
			}
			return s.confirm(c, show, func(w io.Writer) { fmt.Fprintf(w, "\n%s.\n", plan.Risk) })
		})
	})
	if errors.Is(err, errNothingToDo) {
		s.doneWithNothing(c, j.workflow, j.unchanged)
		return nil
	}
	if err != nil {
		return err
	}
	s.doneWith(c, run.RunSummary, func(w io.Writer) {
		said := j.said
		if j.instead != nil {
			said = cmp.Or(j.instead(seen), said)
		}
		run.write(w, fmt.Sprintf(said, run.ID), breakAt(s.stdout))
	})
	return nil
}

func (s *session) togetherOptions(c *cli.Context) (o restore.TogetherOptions, err error) {
	if o.Restore, err = restoreOptions(c); err != nil {
		return o, err
	}
	if err := o.Restore.Check(); err != nil {
		return o, err
	}
	if len(c.StringSlice("skip-phases")) > 0 {
		return o, &engine.UsageError{Reason: "--skip-phases cannot be combined with --nodes",
			Hint: "past the commit point, `etcdpod resume --skip-phases` skips such waits"}
	}
	if o.Rejoin = c.Bool("rejoin"); o.Rejoin && o.Restore.DataDir != "" {
		return o, &engine.UsageError{Reason: "--data-dir cannot be combined with --rejoin"}
	}
	o.Lost, o.SSHCommand, o.RemoteCommand = c.StringSlice("lost"), c.String("ssh-command"), c.String("remote-command")
	if !c.IsSet("nodes") { // --lost alone: this node is all that is left
		return o, nil
	}
	o.Nodes, err = together.ParseNodes(c.StringSlice("nodes"))
	return o, err
}

func (s *session) previewJoint(c *cli.Context, j joint) error {
	var plan engine.TogetherPlan
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		plan, err = j.plan.Preview(c.Context, n.Several())
		return err
	})
	if err != nil {
		return err
	}
	return s.result(c, &plan, func(out io.Writer) {
		writeTogether(out, plan, true, s.width())
		if j.unchanged != "" && plan.Empty() {
			fmt.Fprintf(out, "\n%s\n", j.unchanged)
			return
		}
		writeStakes(out, plan.Stakes, s.width())
		fmt.Fprintf(out, "\nNothing was changed. Without --dry-run, %s does the above, each phase on all "+
			"nodes before the next.\n", c.Command.Name)
	})
}

// writeTogether shows what was found on each node and, in full, what each does. What was found on
// all is shown once, unless in full.
func writeTogether(w io.Writer, plan engine.TogetherPlan, full bool, width int) {
	written, alike := 0, alikeOnAll(plan.Nodes)
	if !full && len(alike) > 0 {
		fmt.Fprintln(w, "=== on all nodes")
		writeLines(w, alike, width)
		written++
	}
	for _, n := range plan.Nodes {
		own := foundOnlyThere(n.Plan, alike)
		if !full && len(own) == 0 && len(n.Phases) > 0 {
			continue
		}
		if written++; written > 1 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "=== %s\n", n.Node)
		if full {
			writePlan(w, n.Plan)
		} else {
			writeLines(w, own, width)
		}
		if len(n.Phases) == 0 {
			fmt.Fprintln(w, "nothing is left to do")
		}
	}
	for _, note := range append(slices.Clone(plan.Notes), plan.Risk) {
		if note != "" {
			fmt.Fprint(w, "\n"+wrapped("note: ", note, 2, width))
		}
	}
}

// alikeOnAll is what was found on each of several nodes.
func alikeOnAll(nodes []engine.NodePlan) (alike []string) {
	if len(nodes) < 2 {
		return nil
	}
	for _, line := range found(nodes[0].Plan) {
		if !slices.ContainsFunc(nodes, func(n engine.NodePlan) bool {
			return !slices.Contains(found(n.Plan), line)
		}) {
			alike = append(alike, line)
		}
	}
	return alike
}

// foundOnlyThere is what planning has found out, without what was found on all nodes.
func foundOnlyThere(plan engine.Plan, alike []string) []string {
	return slices.DeleteFunc(found(plan), func(line string) bool { return slices.Contains(alike, line) })
}

func init() {
	offer(sectionProgram, (*session).agentCommand, (*session).apartCommand)
}

// agentCommand runs on the other nodes of a run on several nodes.
func (s *session) agentCommand() *cli.Command {
	return &cli.Command{
		Name: "agent", Hidden: true,
		Usage: "serve the etcdpod that coordinates a run, over standard input and output",
		Action: func(c *cli.Context) error {
			if err := s.asRoot(c); err != nil {
				return err
			}
			config, err := s.config(c, func(engine.Event) {})
			if err != nil {
				return err
			}
			if s.node, err = phases.Open(config); err != nil {
				return err
			}
			return s.node.Agent(c.Context, s.stdin, s.stdout)
		},
	}
}

// apartName is the command with which etcdpod starts itself.
const apartName = "apart"

// apartCommand is the part of an operation that may end its process.
func (s *session) apartCommand() *cli.Command {
	return &cli.Command{
		Name: apartName, Hidden: true,
		Usage: "work on data for the etcdpod that started this one, which survives a crash of this one",
		Action: func(*cli.Context) error {
			return phases.ServeApart(s.stdin, s.stdout)
		},
	}
}
