package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/together"
)

func init() {
	offer(sectionMembers, (*session).replaceCommand)
}

func (s *session) replaceCommand() *cli.Command {
	return &cli.Command{
		Name: "replace", ArgsUsage: "MEMBER", Usage: "replace a member by one on another machine",
		Description: `MEMBER is an ID, a name or a URL. The new machine is in --with: another one, or the old one, reinstalled or with a new disk, under the same name and address. The new machine has a kubelet, and etcd's CA: kubeadm's part before and after is in /usr/share/doc/etcdpod/docs/runbooks/replace-a-machine.md.

A member that failed leaves first: the API servers that name it are pointed at the others, one at a time, each ready before the next; it leaves the cluster, and the new machine comes in as a learner, which does not vote. Once it has the leader's data and could serve, it is promoted, and the API servers that named the old member name the new one.

A member that serves leaves last, once the new one votes and serves, and no API server names it. Its node is in --nodes, and its data is kept.

Everything is looked at first: what the cluster would be without the member, as etcdpod remove does, and what could keep the new machine out, as etcdpod join does. Several members are replaced one after the other.

Until the commit point, which is announced, a failure or an interrupt undoes everything. After it the run can only be finished: etcd never takes an ID again. etcdpod resume on any of the nodes does that after a crash; if the new machine is lost on the way, etcdpod resume --lost NODE ends the run without it, and etcdpod join adds another one.

With --nodes, etcdpod starts itself on the other nodes over ssh, and in any case on the new machine.

Before it changes a running node it asks; without a terminal, --yes is needed.`,
		UsageText: `etcdpod replace cp3 --with cp4=10.0.0.14 --nodes cp1,cp2 --dry-run
etcdpod replace cp3 --with cp4=10.0.0.14 --nodes cp1,cp2
etcdpod replace cp3 --with cp3 --nodes cp1,cp2 --config /etc/kubernetes/kubeadm.yaml --yes`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "with", Usage: "make the new member on `NODE[=HOST]`"},
			&cli.StringSliceFlag{
				Name: "nodes", Usage: "change all of `NAME[=HOST],…` as one: every node with an API server, and the " +
					"old member's own if that serves; this node coordinates",
			},
			&cli.StringFlag{Name: "config", Usage: "kubeadm's configuration `FILE` on the new machine"},
			&cli.StringFlag{Name: "apiserver-advertise-address", Usage: "the new machine's `ADDRESS`, as for kubeadm"},
			&cli.DurationFlag{Name: "wait-timeout", DefaultText: "2m0s; for etcd, as kubeadm's configuration says",
				Usage: "give each API server, and then etcd, `TIME` to serve; a learner, more while data " +
					"arrives"},
			sshCommandFlag(), remoteCommandFlag(),
		},
		Action: func(c *cli.Context) error {
			options, err := replaceOptions(c)
			if err != nil {
				return err
			}
			named := strings.NewReplacer("%", "%%") // a percent sign in a name is no verb
			return s.jointly(c, joint{
				plan: members.Replace(options),
				said: fmt.Sprintf("Replaced %s: %s is a member, by run %%s. Now run the rest of `kubeadm join` there.",
					named.Replace(options.Member), named.Replace(options.With.Name)),
			})
		},
	}
}

func replaceOptions(c *cli.Context) (o members.ReplaceOptions, err error) {
	o = members.ReplaceOptions{Member: c.Args().First(), Config: c.String("config"),
		AdvertiseAddress: c.String("apiserver-advertise-address"), WaitTimeout: c.Duration("wait-timeout"),
		SSHCommand: c.String("ssh-command"), RemoteCommand: c.String("remote-command")}
	if c.String("with") != "" {
		with, ok := together.ParseNode(c.String("with"))
		if !ok {
			return o, &engine.UsageError{Reason: fmt.Sprintf("--with %q is not NODE or NODE=HOST", c.String("with")),
				Hint: "give one machine, as --with cp4 or --with cp4=10.0.0.14"}
		}
		o.With = with
	}
	if c.IsSet("nodes") {
		if o.Nodes, err = together.ParseNodes(c.StringSlice("nodes")); err != nil {
			return o, err
		}
	}
	return o, o.Check()
}
