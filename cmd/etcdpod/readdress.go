package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/together"
)

func init() {
	offer(sectionMembers, (*session).readdressCommand)
}

func (s *session) readdressCommand() *cli.Command {
	return &cli.Command{
		Name: "readdress", Usage: "have members follow addresses that changed",
		Description: `Run it on the node whose address changed, or with --nodes for several. It issues etcd's server and peer certificates for the new address, puts that into etcd's manifest wherever the old one is, starts etcd there, and has the other members reach it at its new peer URL. Once etcd serves, the new address is put into the API server's manifest as well. The member keeps its ID and its data. A peer URL of localhost in the list of members is corrected in the same way.

Without --address, it is the address of the node's default route, if the node does not have the old one any more. If the node still has the old one, that stays among the names of the certificates, since connections to the other members may come from there; otherwise it is dropped.

With --nodes, members on several nodes follow as one run, and API servers that name several of them, too. Those that are down start first, at their new addresses. Those that serve follow one after the other, each once all others serve. Nodes whose address has not changed may be among them: only what names others is changed there. The commit point comes once all serve at once.

The command refuses an address that the node does not have, or that another member has. It also refuses if the members would have no quorum afterwards. Members find each other only at the peer URLs that they list. If all addresses have changed, none finds another: then one of them, and one is enough, needs its old address back for a while, besides the new one. The refusal says how. Without a quorum, a run brings back those that are down, and leaves those where they are that the others find: the command says so, and is run a second time for them.

kubeadm's certificate of the API server, its kubeconfigs, its ConfigMaps and the kubelet's flags are left to kubeadm: what names the old address is listed, with the command that corrects it.

Until the commit point, at which etcd serves at its new address, a failure or an interrupt undoes everything, with --nodes on all of them. After a crash, etcdpod resume finishes the run, and before the commit point etcdpod rollback undoes it. Before it changes a running node it asks; without a terminal, --yes is needed.`,
		UsageText: `etcdpod readdress --dry-run
etcdpod readdress --address 10.0.0.21
etcdpod readdress --nodes cp1,cp2=10.0.0.22,cp3=10.0.0.23 --address cp1=10.0.0.21`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "address",
				Usage: "move etcd to `ADDRESS`, which the node has now; with --nodes, NAME=ADDRESS,…"},
			&cli.StringSliceFlag{Name: "nodes",
				Usage: "change all of `NAME[=HOST],…` as one; this node is one of them, and coordinates"},
			&cli.DurationFlag{Name: "wait-timeout", Value: 2 * time.Minute,
				Usage: "give etcd, and then the API server, `TIME` to serve"},
			sshCommandFlag(), remoteCommandFlag(),
		},
		Action: s.readdress,
	}
}

func (s *session) readdress(c *cli.Context) error {
	const unchanged = "Nothing to do: etcd and the list of members have this node's address already."
	if c.IsSet("nodes") {
		return s.readdressTogether(c)
	}
	addresses := c.StringSlice("address")
	if len(addresses) > 1 {
		return &engine.UsageError{Reason: "--address is given more than once",
			Hint: "a node has one; of several nodes, give each as NAME=ADDRESS, with --nodes"}
	}
	options := members.ReaddressOptions{WaitTimeout: c.Duration("wait-timeout")}
	if len(addresses) == 1 {
		options.Address = addresses[0]
	}
	return s.carryOut(c, change{
		workflow: members.Readdress(options),
		said: "This node's etcd serves at its new address (run %s). The old manifests and certificates are " +
			"kept until `etcdpod prune`. Where kubeadm's files still name the old address, change them: " +
			"/usr/share/doc/etcdpod/docs/runbooks/change-an-address.md, step 6.",
		unchanged: unchanged,
	})
}

// readdressTogether is readdress on several nodes.
func (s *session) readdressTogether(c *cli.Context) (err error) {
	o := members.FollowOptions{Addresses: map[string]string{}, WaitTimeout: c.Duration("wait-timeout"),
		SSHCommand: c.String("ssh-command"), RemoteCommand: c.String("remote-command")}
	if o.Nodes, err = together.ParseNodes(c.StringSlice("nodes")); err != nil {
		return err
	}
	for _, one := range c.StringSlice("address") {
		name, address, ok := strings.Cut(one, "=")
		if !ok {
			return &engine.UsageError{Reason: fmt.Sprintf("--address %s does not say which node has it", one),
				Hint: "give it as NAME=ADDRESS"}
		}
		o.Addresses[name] = address
	}
	if err := o.Check(); err != nil {
		return err
	}
	return s.jointly(c, joint{
		workflow: "readdress",
		plan:     members.ReaddressTogether(o),
		instead: func(plan engine.TogetherPlan) string {
			if len(plan.Notes) == 0 { // they are about a quorum that the members did not have
				return ""
			}
			return "The members have a quorum again (run %s). If one has stayed at its old address, run the command " +
				"once more: it follows now. The old manifests and certificates are kept until `etcdpod prune`."
		},
		said: fmt.Sprintf("The etcds of %s serve at their new addresses (run %%s). The old manifests and certificates "+
			"are kept until `etcdpod prune`. Where kubeadm's files still name the old addresses, change them: "+
			"/usr/share/doc/etcdpod/docs/runbooks/change-an-address.md, step 6.", count(len(o.Nodes), "node", "nodes")),
		unchanged: "Nothing to do: etcd and the list of members have these nodes' addresses already.",
	})
}
