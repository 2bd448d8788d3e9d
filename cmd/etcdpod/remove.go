package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/together"
)

func init() {
	offer(sectionMembers, (*session).removeCommand)
}

func (s *session) removeCommand() *cli.Command {
	return &cli.Command{
		Name: "remove", ArgsUsage: "MEMBER", Usage: "remove a member from the cluster, for good",
		Description: `MEMBER is an ID, a name or a URL. First the API servers that use it, at whatever URL, are pointed at the other members, one at a time, each ready before the next. Then its etcd is stopped, if it runs on one of the nodes, and its data is kept. Then it leaves the cluster. Where the others have no quorum while it is stopped, as with two members, it leaves while it runs, and is stopped right after.

What the cluster would be without it is looked at first. The command refuses if the others would have no quorum, if the next loss would then cost the quorum although it does not now, for the last member, while a learner or a member that never started is there, for a member that still runs on none of the nodes, and for an API server that would be left with nothing but a URL at which no etcd answers and which no member advertises.

Until the commit point, which is announced, a failure or an interrupt undoes everything. After it the member can only be removed: etcd never takes an ID again. After a crash, etcdpod resume on any of the nodes finishes the run, and before the commit point etcdpod rollback undoes it.

With --nodes, etcdpod starts itself on the other nodes over ssh; without, only this node's API server is looked at. A node that is removed needs kubeadm reset before it is used again.

Before it changes a running node it asks; without a terminal, --yes is needed.`,
		UsageText: `etcdpod remove cp3 --dry-run
etcdpod remove cp3 --nodes cp1,cp2
etcdpod remove 8e9e05c52164694d --nodes cp1,cp2,cp3=10.0.0.13 --yes`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{
				Name: "nodes", Usage: "change all of `NAME[=HOST],…` as one: every node with an API server, and the " +
					"member's own if that is to be stopped; this node coordinates",
			},
			&cli.BoolFlag{Name: "no-spare", Usage: "remove the member even if the next loss then costs the quorum"},
			&cli.DurationFlag{Name: "wait-timeout", DefaultText: "2m0s",
				Usage: "give each API server, and then the other members, `TIME` to serve"},
			sshCommandFlag(), remoteCommandFlag(),
		},
		Action: func(c *cli.Context) error {
			options, err := removeOptions(c)
			if err != nil {
				return err
			}
			return s.jointly(c, joint{
				plan: members.Remove(options),
				// The plan has said what the member is called; a percent sign in a name is no verb.
				said: fmt.Sprintf("Removed %s by run %%s. None of its data was deleted. If its node is still there, "+
					"run `kubeadm reset` on it; then run `kubectl delete node`.",
					strings.ReplaceAll(options.Member, "%", "%%")),
			})
		},
	}
}

func removeOptions(c *cli.Context) (o members.RemoveOptions, err error) {
	o = members.RemoveOptions{Member: c.Args().First(), NoSpare: c.Bool("no-spare"),
		WaitTimeout: c.Duration("wait-timeout"), SSHCommand: c.String("ssh-command"),
		RemoteCommand: c.String("remote-command")}
	if err := o.Check(); err != nil || !c.IsSet("nodes") {
		return o, err
	}
	o.Nodes, err = together.ParseNodes(c.StringSlice("nodes"))
	return o, err
}
