package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/apiserver"
)

func (s *session) apiServerShowCommand() *cli.Command {
	return &cli.Command{
		Name: "apiserver show", Usage: "say which etcds the API server of this node uses, and whether they answer it",
		Description: `Reads the API server's manifest, and dials each of its etcds as the API server does, with its ` +
			`files: which member answers, its role, version and cluster. It says whether the files are where the API ` +
			`server sees them, until when the certificates are good, and what differs from kubeadm's own setting. It ` +
			`works when everything is down, and changes nothing.`,
		UsageText: `etcdpod apiserver show
etcdpod apiserver show -o json`,
		Action: s.showAPIServer,
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
		fmt.Fprintf(w, "  ! %s\n", warning)
	}
}

func (s *session) apiServerSetCommand() *cli.Command {
	return &cli.Command{
		Name: "apiserver set", Usage: "have the API server of this node use other etcds, or other files for them",
		Description: `Changes just those lines of the API server's manifest that say which etcds it uses: everything else stays, byte for byte. What is not given stays as it is. The kubelet then starts the API server anew, and the command waits until it is ready on the new endpoints. If it does not get ready, or ends again and again, the old manifest comes back by itself, and is waited for.

Before anything is touched, each endpoint is dialled as the API server will dial it, with the very files. Refused are an endpoint that does not answer, a learner, a server that the CA does not vouch for or that does not accept the client certificate, a file that is not there or that the manifest does not mount, and another cluster than the one in use.

With --all-members the API server outlives the etcd of its own node: it takes turns over all members, and leaves out those that do not answer. They are asked for where etcd on this node is reached, or at --endpoints. The list is the same on every node, in the order of the members' names, since the API server's client has no first choice. Type it on each control plane, one after the other.

kubeadm upgrade writes kubeadm's own setting again. To keep another one, put it into apiServer.extraArgs of kubeadm's ClusterConfiguration, too.

After a crash, etcdpod resume finishes the run, or etcdpod rollback undoes it. The old manifest is kept in the run's folder until etcdpod prune. A running node is changed only after a yes on the terminal; without a terminal, --yes is needed.`,
		UsageText: `etcdpod apiserver set --all-members --dry-run
etcdpod apiserver set --etcd-servers https://10.0.0.11:2379,https://10.0.0.12:2379,https://10.0.0.13:2379
etcdpod apiserver set --etcd-servers https://etcd.example.org:2379 --etcd-cafile /etc/kubernetes/pki/external/ca.crt --etcd-certfile /etc/kubernetes/pki/external/client.crt --etcd-keyfile /etc/kubernetes/pki/external/client.key`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "etcd-servers", Usage: "use the etcds at `URLS`, with commas between"},
			&cli.BoolFlag{Name: "all-members", Usage: "use all members that the cluster has now"},
			&cli.StringFlag{
				Name:  "etcd-cafile",
				Usage: "trust etcd by the CA in `FILE`, a path as the API server's container sees it",
			},
			&cli.StringFlag{Name: "etcd-certfile", Usage: "show etcd the certificate in `FILE`, likewise"},
			&cli.StringFlag{Name: "etcd-keyfile", Usage: "the private key of --etcd-certfile, in `FILE`, likewise"},
			&cli.BoolFlag{
				Name: "another-cluster", Usage: "go over to another cluster than the one in use, with other objects",
			},
			&cli.DurationFlag{Name: "stop-timeout", DefaultText: "3s",
				Usage: "give the old API server `TIME` to end by itself"},
			&cli.DurationFlag{Name: "wait-timeout", Value: 2 * time.Minute,
				Usage: "give the new API server `TIME` to be ready"},
		},
		Action: s.setAPIServer,
	}
}

func (s *session) setAPIServer(c *cli.Context) error {
	workflow := apiserver.Set(apiserver.Options{
		Wish: apiserver.EtcdFlags{
			Servers: c.StringSlice("etcd-servers"), CAFile: c.String("etcd-cafile"),
			CertFile: c.String("etcd-certfile"), KeyFile: c.String("etcd-keyfile"),
		},
		AllMembers: c.Bool("all-members"), AnotherCluster: c.Bool("another-cluster"),
		StopTimeout: c.Duration("stop-timeout"), WaitTimeout: c.Duration("wait-timeout"),
	})
	return s.carryOut(c, change{
		workflow:  workflow,
		said:      "The API server is ready with it, by the run %s. The old manifest is kept until `etcdpod prune`.",
		unchanged: "Nothing to do: the API server's manifest says so already.",
	})
}
