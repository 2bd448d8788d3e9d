package main

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/together"
	"github.com/etcdpod/etcdpod/phases/upgrade"
)

func init() {
	offer(sectionMembers, (*session).upgradePlanCommand, (*session).upgradeCommand)
}

func (s *session) upgradeCommand() *cli.Command {
	return &cli.Command{
		Name: "upgrade", Usage: "have all members run a newer etcd, one after the other",
		Description: `Replaces the etcd of one member after the other, the leader's last, on this node or with --nodes on several as one run: this node coordinates. It refuses what etcdpod upgrade plan says would not end well. Registry and repository of the image stay the manifest's, and its tag is the one that kubeadm uses for the version; --image names another image.

First every node pulls the image, while the old etcds serve; if one cannot get it, nothing is stopped, and the exit code is 5. Then a backup is taken on this node, proven, and kept. For each member the manifest gets the new image, and the new names of flags without which the new etcd would not start; all else in it stays as it is. A member is stopped only while all others serve, and the next one's turn comes once this one runs the version, and all members have answered and been up to date for 5 s.

Where the minor rises, the commit point is just before the last member's turn: only when all members run the new minor does the version of the cluster rise. Until then a failure, an interrupt or etcdpod rollback puts the old manifests back, one after the other in reverse, and nothing that was written meanwhile is lost. Where the minor stays, the commit point comes once all members run the version. Past it etcdpod resume finishes the run. At the end the version of the cluster and of the data is seen to have risen, and etcd.local.imageTag in kubeadm's ClusterConfiguration is brought in line; where no API server answers, the command says what to type.

While a member starts anew, the API server on its node is away, if it uses that member alone. A cluster of one member serves nobody meanwhile. Before it changes running nodes it asks; without a terminal, --yes is needed. /usr/share/doc/etcdpod/docs/upgrade.md has the gates and the steps.`,
		UsageText: `etcdpod upgrade --to 3.6.16 --nodes cp1,cp2,cp3 --dry-run
etcdpod upgrade --to 3.6.16 --nodes cp1,cp2,cp3
etcdpod upgrade --to 3.6.16
etcdpod upgrade --to 3.6.16 --image registry.example.org/etcd:3.6.16-0 --nodes cp1,cp2,cp3`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "have all members run `VERSION`, such as 3.6.16"},
			&cli.StringFlag{Name: "image", Usage: "run it from `IMAGE` on all nodes"},
			&cli.StringSliceFlag{Name: "nodes",
				Usage: "upgrade the members on all of `NAME[=HOST],…`; this node is one of them, and coordinates"},
			&cli.DurationFlag{Name: "wait-timeout", Value: 2 * time.Minute,
				Usage: "give each etcd, and then its API server, `TIME` to serve"},
			&cli.DurationFlag{Name: "pull-timeout", Value: 10 * time.Minute,
				Usage: "give each node `TIME` to pull the image"},
			sshCommandFlag(), remoteCommandFlag(),
		},
		Action: s.upgrade,
	}
}

// replacing are the options of upgrade, and of downgrade.
func replacing(c *cli.Context, down bool) (upgrade.TogetherOptions, error) {
	plain, err := upgradeOptions(c)
	if err != nil {
		return upgrade.TogetherOptions{}, err
	}
	plain.Down = down
	o := upgrade.TogetherOptions{Options: plain, Image: c.String("image"), WaitTimeout: c.Duration("wait-timeout"),
		PullTimeout: c.Duration("pull-timeout")}
	return o, o.Check()
}

func (s *session) upgrade(c *cli.Context) error {
	o, err := replacing(c, false)
	if err != nil {
		return err
	}
	return s.jointly(c, joint{
		workflow: "upgrade",
		plan:     upgrade.Together(o),
		instead: func(plan engine.TogetherPlan) string {
			if upgrade.Replaces(plan) {
				return ""
			}
			return fmt.Sprintf("All members run etcd %s already: kubeadm's imageTag was all that was left (run %%s).",
				o.To)
		},
		said: fmt.Sprintf("All members run etcd %s (run %%s). The backup that was taken first stays: `etcdpod "+
			"backups` lists it. The old manifests are kept on each node until `etcdpod prune`.", o.To),
		unchanged: fmt.Sprintf("Nothing to do: all members run etcd %s.", o.To),
	})
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
