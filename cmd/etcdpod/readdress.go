package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/members"
)

func init() {
	offer(sectionMembers, (*session).readdressCommand)
}

func (s *session) readdressCommand() *cli.Command {
	return &cli.Command{
		Name: "readdress", Usage: "have this node's member follow an address that changed",
		Description: `Run it on the node whose address changed. It issues etcd's server and peer certificates for the new address, puts that into etcd's manifest wherever the old one is, starts etcd there, and has the other members reach it at its new peer URL. Once etcd serves, the new address is put into the API server's manifest as well. The member keeps its ID and its data. A peer URL of localhost in the list of members is corrected in the same way.

Without --address, it is the address of the node's default route, if the node does not have the old one any more. If the node still has the old one, that stays among the names of the certificates, since connections to the other members may come from there; otherwise it is dropped.

The command refuses an address that the node does not have, or that another member has. It also refuses if etcd would have no quorum with the members that answer. Of several nodes, change one after the other. If the addresses of all have changed, none finds another: first give one of them its old address back for a while, besides the new one.

kubeadm's certificate of the API server, its kubeconfigs, its ConfigMaps and the kubelet's flags are left to kubeadm: what names the old address is listed, with the command that corrects it.

Until the commit point, at which etcd serves at its new address, a failure or an interrupt undoes everything. After a crash, etcdpod resume finishes the run, and before the commit point etcdpod rollback undoes it. Before it changes a running node it asks; without a terminal, --yes is needed.`,
		UsageText: `etcdpod readdress --dry-run
etcdpod readdress --address 10.0.0.21`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "address", Usage: "move etcd to `ADDRESS`, which the node has now"},
			&cli.DurationFlag{Name: "wait-timeout", Value: 2 * time.Minute,
				Usage: "give etcd, and then the API server, `TIME` to serve"},
		},
		Action: func(c *cli.Context) error {
			return s.carryOut(c, change{
				workflow: members.Readdress(members.ReaddressOptions{Address: c.String("address"),
					WaitTimeout: c.Duration("wait-timeout")}),
				said: "This node's etcd serves at its new address (run %s). The old manifests and certificates are " +
					"kept until `etcdpod prune`. Where kubeadm's files still name the old address, change them: " +
					"/usr/share/doc/etcdpod/docs/runbooks/change-an-address.md, step 6.",
				unchanged: "Nothing to do: etcd and the list of members have this node's address already.",
			})
		},
	}
}
