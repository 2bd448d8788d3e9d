package main

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/together"
)

func init() {
	offer(sectionRuns, (*session).resumeCommand, (*session).rollbackCommand)
}

func (s *session) resumeCommand() *cli.Command {
	return &cli.Command{
		Name: "resume", Usage: "finish an interrupted run",
		Description: `Continues the open run where it stopped, and ends it: it finishes the run, or undoes it if ` +
			`undoing had begun. A run on several nodes is settled on all of them, from any of them. It does not ask: ` +
			`the run was confirmed when it began.`,
		UsageText: `etcdpod resume`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "skip-phases",
				Usage: "past the commit point, skip the waits of the phases `NAMES` (comma-separated)"},
			lostFlag(), reachFlag("ssh-command"), reachFlag("remote-command"),
		},
		Action: func(c *cli.Context) error {
			return s.settle(c, "Finished", false, func(n *phases.Node, ctx context.Context) error {
				return n.Resume(ctx, c.StringSlice("skip-phases")...)
			})
		},
	}
}

func (s *session) rollbackCommand() *cli.Command {
	return &cli.Command{
		Name: "rollback", Usage: "undo an interrupted run",
		Description: `Undoes everything that the open run did, in reverse, until all is as it was before; a run on ` +
			`several nodes is undone on all of them. Past the commit point it refuses, since clients may have ` +
			`written to the new data, and says how to go back to the data that was kept. Before it, it also refuses ` +
			`if clients have written to the new data, because someone has started an API server meanwhile, or if ` +
			`nothing tells whether they have: --give-up-writes rolls back anyway, and keeps that data.`,
		UsageText: `etcdpod rollback`,
		Flags: []cli.Flag{lostFlag(), reachFlag("ssh-command"), reachFlag("remote-command"),
			&cli.BoolFlag{Name: "give-up-writes",
				Usage: "roll back even if clients have, or may have, written to the new data, which is kept in the " +
					"run's folder"}},
		Action: func(c *cli.Context) error {
			return s.settle(c, "Rolled back; everything is as before",
				true, func(n *phases.Node, ctx context.Context) error {
					n.GiveUp(c.Bool("give-up-writes"))
					return n.Rollback(ctx)
				})
		},
	}
}

func lostFlag() cli.Flag {
	return &cli.StringSliceFlag{
		Name:  "lost",
		Usage: "for a run on several nodes: settle it without `NODES` (comma-separated), which are destroyed",
	}
}

// reachFlag is a flag for how the other nodes of a run are reached from here: where that is another
// node than the one on which it was begun, the way there may be another, too.
func reachFlag(name string) cli.Flag {
	return &cli.StringFlag{Name: name, DefaultText: "as the run was begun",
		Usage: "for a run on several nodes: use `COMMAND` from here instead"}
}

// takeUp says how to end a run on several nodes.
func takeUp(c *cli.Context, n *phases.Node) {
	n.Lost(c.StringSlice("lost"))
	n.Reaching(together.Reach{SSHCommand: c.String("ssh-command"), RemoteCommand: c.String("remote-command")})
}

// settle ends the open run one way or the other.
func (s *session) settle(c *cli.Context, done string, back bool, end func(*phases.Node, context.Context) error) error {
	if c.Bool("dry-run") {
		return s.previewOpen(c, back)
	}
	if err := s.asRoot(c); err != nil {
		return err
	}
	run, err := s.watchRun(c, func(n *phases.Node, _ display) error {
		takeUp(c, n)
		return end(n, c.Context)
	})
	if err != nil {
		return err
	}
	s.doneWith(c, run.RunSummary, func(w io.Writer) {
		run.write(w, fmt.Sprintf("%s: %s.", done, run.ID), breakAt(s.stdout))
	})
	return nil
}

// previewOpen is --dry-run: one plan, or one per node for a run on several nodes.
func (s *session) previewOpen(c *cli.Context, back bool) error {
	var plan engine.TogetherPlan
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		takeUp(c, n)
		plan, err = n.PreviewOpen(c.Context, back)
		return err
	})
	if err != nil {
		return err
	}
	if plan.Nodes[0].Node == "" {
		return s.shown(c, plan.Nodes[0].Plan, "")
	}
	return s.result(c, &plan, func(out io.Writer) {
		writeTogether(out, plan, true, s.width())
		fmt.Fprintf(out, "\nNothing was changed. Without --dry-run, %s does the above.\n", c.Command.Name)
	})
}
