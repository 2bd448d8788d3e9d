package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/prune"
)

func init() {
	offer(sectionRuns, (*session).pruneCommand)
}

func (s *session) pruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "delete what earlier runs kept",
		Description: `Replaced data, manifests and certificates are kept until this command deletes them. It first ` +
			`shows what it would delete and how much space that frees, and asks; without a terminal, --yes is ` +
			`needed. It never deletes what an open run or the newest finished one needs, and never touches backups. ` +
			`The journals stay, a few KiB each: etcdpod runs and etcdpod runs show still show what was done.`,
		UsageText: `etcdpod prune --dry-run
etcdpod prune --older-than 30d --yes`,
		Flags: []cli.Flag{
			&cli.GenericFlag{Name: "older-than", Value: new(age),
				DefaultText: "any age", Usage: "only what is older than `AGE`, such as 720h or 30d"},
		},
		Action: s.prune,
	}
}

func (s *session) prune(c *cli.Context) error {
	if err := s.asRoot(c); err != nil {
		return err
	}
	dryRun := c.Bool("dry-run")
	if !dryRun {
		if err := s.mayAsk(c); err != nil {
			return err
		}
	}
	var plan prune.Plan
	err := s.onNode(c, func(n *phases.Node, show display) (err error) {
		plan, err = prune.Look(c.Context, n.Engine(), n.Look, time.Duration(*c.Generic("older-than").(*age)))
		if err != nil || dryRun {
			return err
		}
		if len(plan.Items) > 0 {
			if err := s.confirm(c, show, func(w io.Writer) { writePrune(w, plan, time.Now()) }); err != nil {
				return err
			}
		}
		return prune.Delete(c.Context, n.Engine(), n.Look, plan)
	})
	if err != nil {
		return err
	}
	s.done(c, &plan, func(w io.Writer) {
		switch {
		case plan.Elsewhere() != "":
			fmt.Fprintf(w, "There is nothing to delete: %s.\n", plan.Elsewhere())
		case len(plan.Items) == 0:
			writePrune(w, plan, time.Now())
			fmt.Fprintln(w, "There is nothing to delete.")
		case dryRun:
			writePrune(w, plan, time.Now())
			fmt.Fprintln(w, "\nNothing was deleted. Without --dry-run, prune deletes the above.")
		default:
			writeItems(w, plan.Items, time.Now())
			fmt.Fprintf(w, "Deleted the above and freed %s. `etcdpod runs` still lists the runs.\n",
				engine.Size(plan.Bytes))
		}
	})
	return nil
}

func writePrune(w io.Writer, plan prune.Plan, now time.Time) {
	if len(plan.Items) > 0 {
		fmt.Fprintf(w, "To be deleted, freeing %s:\n", engine.Size(plan.Bytes))
		writeItems(w, plan.Items, now)
	}
	if len(plan.Kept) > 0 {
		fmt.Fprintln(w, "Kept:")
		writeItems(w, plan.Kept, now)
	}
}

func writeItems(w io.Writer, items []prune.Item, now time.Time) {
	var rows [][]string
	for _, i := range items {
		rows = append(rows, []string{"  " + i.Path, engine.Size(i.Bytes), when(i.Time, now), i.Reason})
	}
	table(w, rows)
}
