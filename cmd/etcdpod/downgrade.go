package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/upgrade"
)

func init() {
	offer(sectionMembers, (*session).downgradeCommand, (*session).downgradeCancelCommand)
}

func (s *session) downgradeCommand() *cli.Command {
	return &cli.Command{
		Name: "downgrade", Usage: "take all members to the minor before, by etcd's own protocol",
		Description: `Takes etcd from 3.7 to 3.6, or from 3.6 to 3.5, on this node or with --nodes on several as one run: this node coordinates. The data stay, with all that was written since the upgrade. It refuses anything but one minor, and what would not end well: members that do not answer, have not caught up or are learners, alarms, an upgrade that is half done, flags that the older etcd does not know, a version that loses data. Then etcd itself is asked whether the downgrade is valid.

First every node pulls the image, while all etcds serve; if one cannot get it, nothing is stopped, and the exit code is 5. Then a backup is taken on this node, proven, and kept. Then the downgrade is enabled: the leader lowers the version of the cluster, and each member that of its data. Until then a failure, an interrupt or etcdpod rollback cancels the downgrade, and sees that the version of the cluster has risen again.

The commit point comes once the data of all members are of the older minor. Past it there is only forward: one member after the other, the leader's last, gets the older image, and the names that its flags have there; all else in the manifest stays as it is. Before each one's turn it is seen that nobody has cancelled the downgrade. At the end it is seen that the leader has ended the downgrade, and etcd.local.imageTag in kubeadm's ClusterConfiguration is brought in line; where no API server answers, the command says what to type.

A downgrade that somebody has enabled before is gone on with. While a member starts anew, the API server on its node is away, if it uses that member alone. A cluster of one member serves nobody meanwhile. Before it changes running nodes it asks; without a terminal, --yes is needed. /usr/share/doc/etcdpod/docs/downgrade.md has the gates and the steps.`,
		UsageText: `etcdpod downgrade --to 3.6.16 --nodes cp1,cp2,cp3 --dry-run
etcdpod downgrade --to 3.6.16 --nodes cp1,cp2,cp3
etcdpod downgrade --to 3.6.16
etcdpod downgrade --to 3.6.16 --image registry.example.org/etcd:3.6.16-0 --nodes cp1,cp2,cp3`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "have all members run `VERSION`, such as 3.6.16"},
			&cli.StringFlag{Name: "image", Usage: "run it from `IMAGE` on all nodes"},
			&cli.StringSliceFlag{Name: "nodes",
				Usage: "take the members on all of `NAME[=HOST],…` down; this node is one of them, and coordinates"},
			&cli.DurationFlag{Name: "wait-timeout", Value: 2 * time.Minute,
				Usage: "give each etcd, its API server, and each step of the protocol `TIME`"},
			&cli.DurationFlag{Name: "pull-timeout", Value: 10 * time.Minute,
				Usage: "give each node `TIME` to pull the image"},
			sshCommandFlag(), remoteCommandFlag(),
		},
		Action: s.downgrade,
	}
}

func (s *session) downgrade(c *cli.Context) error {
	o, err := replacing(c, true)
	if err != nil {
		return err
	}
	return s.jointly(c, joint{
		workflow: "downgrade",
		plan:     upgrade.DownTogether(o),
		instead: func(plan engine.TogetherPlan) string {
			if upgrade.Replaces(plan) {
				return ""
			}
			return fmt.Sprintf("All members run etcd %s already: what was left is done (run %%s).", o.To)
		},
		said: fmt.Sprintf("All members run etcd %s, and the downgrade has ended (run %%s). The backup that was taken "+
			"first stays: `etcdpod backups` lists it. The old manifests are kept on each node until `etcdpod prune`.",
			o.To),
		unchanged: fmt.Sprintf("Nothing to do: all members run etcd %s.", o.To),
	})
}

func (s *session) downgradeCancelCommand() *cli.Command {
	return &cli.Command{
		Name: "downgrade cancel", Usage: "cancel a downgrade of etcd that was enabled and has not ended",
		Description: `Cancels a downgrade that somebody has enabled, with etcdctl or otherwise, and never finished, and waits until no member knows of it and the version of the cluster has risen again. No member is stopped. If none is enabled, nothing is done.

Members that run the older etcd already go on: as long as one does, the version of the cluster stays that minor, and etcdpod upgrade takes them up again. A run of etcdpod downgrade that is open is undone with etcdpod rollback instead. It can be run on any control plane; a quorum must answer. Before it cancels the downgrade it asks; without a terminal, --yes is needed.`,
		UsageText: `etcdpod downgrade cancel --dry-run
etcdpod downgrade cancel`,
		Action: s.downgradeCancel,
	}
}

func (s *session) downgradeCancel(c *cli.Context) error {
	var cancel *upgrade.Cancel
	err := s.changeCluster(c, func(n *phases.Node) (_ changes, err error) {
		cancel, err = upgrade.PlanCancel(c.Context, n.Look)
		return cancel, err
	}, func() []string {
		return append([]string{cancelText(cancel)}, cancel.Notes...)
	}, func(n *phases.Node) error { return cancel.Carry(c.Context, n.Engine()) })
	if err != nil {
		return err
	}
	s.done(c, cancel, func(w io.Writer) {
		switch {
		case cancel.Already():
			fmt.Fprintln(w, "Nothing to do: no downgrade of etcd is enabled.")
		case cancel.Cancelled:
			fmt.Fprintf(w, "The downgrade to %s is cancelled; the version of the cluster is %s.\n", cancel.Target,
				orDash(cancel.ClusterVersion))
		default:
			writeLines(w, append([]string{cancelText(cancel)}, cancel.Notes...), s.width())
			writeStakes(w, cancel.Stakes(), s.width())
			fmt.Fprintf(w, "\nNothing was changed. Without --dry-run, %s does the above.\n", c.Command.Name)
		}
	})
	return nil
}

func cancelText(c *upgrade.Cancel) string {
	return fmt.Sprintf("cancels the downgrade of etcd to %s, which was enabled and has not ended", c.Target)
}
