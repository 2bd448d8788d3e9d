package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/together"
	"github.com/etcdpod/etcdpod/phases/upgrade"
)

func init() {
	offer(sectionMembers, (*session).upgradePlanCommand)
}

func (s *session) upgradePlanCommand() *cli.Command {
	return &cli.Command{
		Name: "upgrade plan", Usage: "say whether an upgrade of etcd would end well, and change nothing",
		Description: `Says first whether the upgrade would end well, and if not why. Then it lists the members, in the order in which they would be replaced, and all that it has found, each with what to do about it. It reads only: nothing is pulled, stopped or written.

It asks all members what they run, whether they serve and have caught up, and for alarms, and looks on each node of --nodes (on this one alone without) at the data of etcd, its flags and certificates, the quota, the disk, and what would keep etcd from starting again. Each flag, variable and setting is held against those of the new version. Before 3.6 it compares the members in the data with those that vote, and looks for what the v2 API has left, while etcd runs.

Without --to it judges the newest release that it knows of the minor that runs, and of the next one. It knows 3.5 to 3.7, and does not ask a registry. The exit code is 5 if none of them would end well, or if something could not be looked at. /usr/share/doc/etcdpod/docs/upgrade.md has the gates.`,
		UsageText: `etcdpod upgrade plan --nodes cp1,cp2,cp3
etcdpod upgrade plan --to 3.6.16 --nodes cp1,cp2,cp3
etcdpod upgrade plan --to 3.6.16 --nodes cp1,cp2,cp3 -o json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "judge the upgrade to `VERSION`, such as 3.6.16"},
			&cli.StringSliceFlag{Name: "nodes", Usage: "look at all of `NAME[=HOST],…`, over ssh"},
			sshCommandFlag(), remoteCommandFlag(),
		},
		Action: s.upgradePlan,
	}
}

// upgradeOptions reads the flags, before anything is looked at.
func upgradeOptions(c *cli.Context) (o upgrade.Options, err error) {
	if c.IsSet("to") {
		if o.To, err = upgrade.ParseVersion(c.String("to")); err != nil {
			return o, err
		}
	}
	if c.IsSet("nodes") {
		if o.Nodes, err = together.ParseNodes(c.StringSlice("nodes")); err != nil {
			return o, err
		}
	}
	o.SSHCommand, o.RemoteCommand = c.String("ssh-command"), c.String("remote-command")
	return o, nil
}

func (s *session) upgradePlan(c *cli.Context) error {
	o, err := upgradeOptions(c)
	if err != nil {
		return err
	}
	var r upgrade.Report
	err = s.onNode(c, func(n *phases.Node, _ display) (err error) {
		r, err = upgrade.Ahead(c.Context, n.Several(), o)
		return err
	})
	if err != nil {
		return err
	}
	err = s.result(c, &r, func(w io.Writer) { writeUpgrade(w, r) })
	if err == nil && !r.Good() && len(r.Plans) > 0 {
		return foundError(exitRefused)
	}
	return err
}

// writeUpgrade writes each plan, the verdict first.
func writeUpgrade(w io.Writer, r upgrade.Report) {
	for i, p := range r.Plans {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if len(r.Plans) > 1 {
			fmt.Fprintf(w, "To etcd %s:\n", p.To)
		}
		writeUpgradePlan(w, p)
	}
	if len(r.Plans) > 0 {
		fmt.Fprintln(w)
	}
	writeNext(w, oneLine(r.Next))
}

func writeUpgradePlan(w io.Writer, p upgrade.Plan) {
	behind(w, "", oneLine(p.Sentence))
	fmt.Fprintln(w)
	rows := [][]string{{"MEMBER", "ROLE", "NODE", "NOW", "THEN", "GATE", "IMAGE", "FLAGS"}}
	for _, m := range p.Members {
		rows = append(rows, upgradeRow(p, m))
	}
	tableWithin(w, rows, widthOf(w), "IMAGE", "ROLE", "NODE")
	told := p.Told()
	if len(told) > 0 {
		fmt.Fprintln(w)
	}
	for _, f := range told {
		mark := map[upgrade.Weight]string{upgrade.Blocks: "! ", upgrade.Doubts: "? ", upgrade.Notes: "- "}[f.Weight]
		behind(w, mark, oneLine(f.Where()+f.Text))
		if f.Next != "" {
			behind(w, "  next: ", oneLine(f.Next))
		}
	}
}

func upgradeRow(p upgrade.Plan, m upgrade.Member) []string {
	image := "-"
	switch {
	case m.Present == nil:
	case *m.Present:
		image = "here"
	default:
		image = "to pull"
	}
	return []string{cmp.Or(m.Name, m.ID), m.Role, orDash(m.Node), orDash(m.Version), p.To, orDash(m.Gate), image,
		orDash(m.FlagsText())}
}
