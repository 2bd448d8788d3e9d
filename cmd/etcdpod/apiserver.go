package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/together"
)

func init() {
	offer(sectionAccess, (*session).apiServerShowCommand, (*session).apiServerSetCommand)
}

func (s *session) apiServerShowCommand() *cli.Command {
	return &cli.Command{
		Name: "apiserver show", Usage: "show which etcds API servers use, and whether they answer",
		Description: `Reads the manifest of this node's API server, or with --nodes of those of several nodes, and ` +
			`connects to each of its etcds as the API server does, with the same files: which member answers, its ` +
			`role, version and cluster. It shows whether the API server can see those files, when the certificates ` +
			`expire, and what differs from kubeadm's own setting. It works when everything is down, and changes ` +
			`nothing.`,
		UsageText: `etcdpod apiserver show
etcdpod apiserver show --nodes cp1,cp2,cp3
etcdpod apiserver show -o json`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "nodes", Usage: "show the API servers of all of `NAME[=HOST],…`"},
			sshCommandFlag(), remoteCommandFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.IsSet("nodes") {
				return s.showAPIServers(c)
			}
			return s.showAPIServer(c)
		},
	}
}

func (s *session) showAPIServer(c *cli.Context) error {
	var report apiserver.Report
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		report, err = apiserver.Show(c.Context, n.Look)
		return err
	})
	if err != nil {
		return err
	}
	return s.result(c, &report, func(w io.Writer) { writeAPIServer(w, report) })
}

// showAPIServers is `apiserver show` of several nodes.
func (s *session) showAPIServers(c *cli.Context) error {
	nodes, err := together.ParseNodes(c.StringSlice("nodes"))
	if err != nil {
		return err
	}
	var report apiserver.NodesReport
	err = s.onNode(c, func(n *phases.Node, _ display) (err error) {
		report, err = apiserver.ShowNodes(c.Context, n.Several(), together.NodesAt(nodes, c.String("ssh-command"),
			c.String("remote-command")))
		return err
	})
	if err != nil {
		return err
	}
	return s.result(c, &report, func(w io.Writer) { writeAPIServers(w, report) })
}

func writeAPIServers(w io.Writer, r apiserver.NodesReport) {
	for i, n := range r.Nodes {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "=== %s\n", n.Node)
		switch {
		case n.Report != nil:
			writeAPIServer(w, *n.Report)
		case n.Hint != "":
			behind(w, "  ! ", fmt.Sprintf("%s; %s", n.Error, n.Hint))
		default:
			behind(w, "  ! ", n.Error)
		}
	}
}

func writeAPIServer(w io.Writer, r apiserver.Report) {
	rows := [][]string{{"ETCD", "ANSWERS", "MEMBER", "ROLE", "VERSION", "CLUSTER"}}
	for _, e := range r.Servers {
		rows = append(rows, []string{e.URL, yesNo(e.Serves), e.Name, e.Role, e.Version, e.ClusterID})
	}
	table(w, rows)
	if len(r.Files) > 0 {
		fmt.Fprintln(w)
		rows = [][]string{{"FLAG", "FILE", "EXPIRES", "DAYS LEFT"}}
		for _, f := range r.Files {
			row := []string{f.Flag, f.Path}
			if !f.NotAfter.IsZero() {
				row = append(row, f.NotAfter.UTC().Format("Jan 02, 2006 15:04 MST"), strconv.Itoa(f.DaysLeft))
			}
			rows = append(rows, row)
		}
		table(w, rows)
	}
	for _, o := range r.Overrides {
		fmt.Fprintf(w, "\nElsewhere: %s", o)
	}
	fmt.Fprintf(w, "\nIn %s", r.Manifest)
	switch {
	case r.Compared == "":
		fmt.Fprintln(w, "; what kubeadm would write is not known.")
	case len(r.Differences) == 0:
		fmt.Fprintf(w, ", as %s would have it.\n", r.Compared)
	default:
		fmt.Fprintf(w, ", which differs from %s:\n", r.Compared)
	}
	for _, d := range r.Differences {
		fmt.Fprintf(w, "  %s\n", d)
	}
	for _, warning := range r.Warnings {
		behind(w, "  ! ", warning)
	}
}

func (s *session) apiServerSetCommand() *cli.Command {
	return &cli.Command{
		Name: "apiserver set", Usage: "point API servers at other etcds, or at other files for them",
		Description: `Changes this node's API server, or with --nodes those of several. It changes only the lines of the API server's manifest that say which etcds it uses. Everything else stays, byte for byte, and so does every setting that you do not give. The kubelet then restarts the API server, and the command waits until it is ready with the new endpoints. If it does not become ready, or keeps exiting, the old manifest is put back, and the command waits for the API server again.

Before anything is touched, each endpoint is tried as the API server will use it, with the same files. The command refuses an endpoint that does not answer, a learner, a server whose certificate the CA did not sign or that rejects the client certificate, a file that is missing or that the manifest does not mount, and a cluster other than the one in use.

With --all-members the API server survives the loss of its own node's etcd: its client spreads requests over all members, and skips those that do not answer. The list of members comes from this node's etcd, or from --endpoints. It is the same on every node, sorted by member name, since the client prefers none of them.

With --nodes the API servers of several control planes change as one run: one at a time, each ready before the next is touched. etcdpod starts itself on the other nodes over ssh. This node lists the members for all, and every node tries every endpoint with its own files, before anything is touched on any of them. If one API server does not become ready, the old manifests are put back on all nodes, again one at a time. The commit point comes once all are ready at once.

kubeadm upgrade restores kubeadm's own setting. To keep yours, put it into apiServer.extraArgs of kubeadm's ClusterConfiguration as well.

After a crash, etcdpod resume finishes the run, or etcdpod rollback undoes it, with --nodes on any of the nodes. The old manifest is kept in the run's folder until etcdpod prune. Before it changes a running node it asks; without a terminal, --yes is needed.`,
		UsageText: `etcdpod apiserver set --all-members --dry-run
etcdpod apiserver set --all-members --nodes cp1,cp2,cp3=10.0.0.13
etcdpod apiserver set --etcd-servers https://10.0.0.11:2379,https://10.0.0.12:2379,https://10.0.0.13:2379
etcdpod apiserver set --etcd-servers https://etcd.example.org:2379 --etcd-cafile /etc/kubernetes/pki/external/ca.crt --etcd-certfile /etc/kubernetes/pki/external/client.crt --etcd-keyfile /etc/kubernetes/pki/external/client.key`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "etcd-servers", Usage: "use the etcds at `URLS`, comma-separated"},
			&cli.BoolFlag{Name: "all-members", Usage: "use all current members of the cluster"},
			&cli.StringFlag{
				Name:  "etcd-cafile",
				Usage: "trust etcd by the CA in `FILE`, a path as the API server's container sees it",
			},
			&cli.StringFlag{Name: "etcd-certfile", Usage: "present the certificate in `FILE` to etcd, likewise"},
			&cli.StringFlag{Name: "etcd-keyfile", Usage: "the private key of --etcd-certfile, in `FILE`, likewise"},
			&cli.BoolFlag{
				Name: "another-cluster", Usage: "allow switching to a different cluster, with different objects",
			},
			&cli.DurationFlag{Name: "stop-timeout", DefaultText: "3s",
				Usage: "give the old API server `TIME` to shut down"},
			&cli.DurationFlag{Name: "wait-timeout", Value: 2 * time.Minute,
				Usage: "give the new API server `TIME` to become ready"},
			&cli.StringSliceFlag{Name: "nodes",
				Usage: "change the API servers of all of `NAME[=HOST],…`, one at a time; this node coordinates"},
			sshCommandFlag(), remoteCommandFlag(),
		},
		Action: s.setAPIServer,
	}
}

func (s *session) setAPIServer(c *cli.Context) error {
	options := apiserver.Options{
		Wish: apiserver.EtcdFlags{
			Servers: c.StringSlice("etcd-servers"), CAFile: c.String("etcd-cafile"),
			CertFile: c.String("etcd-certfile"), KeyFile: c.String("etcd-keyfile"),
		},
		AllMembers: c.Bool("all-members"), AnotherCluster: c.Bool("another-cluster"),
		StopTimeout: c.Duration("stop-timeout"), WaitTimeout: c.Duration("wait-timeout"),
	}
	if c.IsSet("nodes") {
		return s.setAPIServers(c, options)
	}
	return s.carryOut(c, change{
		workflow: apiserver.Set(options),
		said: "The API server is ready with the new settings (run %s). The old manifest is kept until `etcdpod " +
			"prune`.",
		unchanged: "Nothing to do: the API server's manifest already says so.",
	})
}

// setAPIServers is `apiserver set` on several nodes.
func (s *session) setAPIServers(c *cli.Context, set apiserver.Options) error {
	o := apiserver.TogetherOptions{Set: set, SSHCommand: c.String("ssh-command"),
		RemoteCommand: c.String("remote-command")}
	if err := o.Check(); err != nil {
		return err
	}
	var err error
	if o.Nodes, err = together.ParseNodes(c.StringSlice("nodes")); err != nil {
		return err
	}
	return s.jointly(c, joint{
		plan:     apiserver.SetTogether(o),
		workflow: "apiserver",
		said: fmt.Sprintf("The API servers of %s are ready with the new settings (run %%s). The old manifests are "+
			"kept until `etcdpod prune`.", count(len(o.Nodes), "node", "nodes")),
		unchanged: "Nothing to do: the API servers' manifests already say so.",
	})
}
