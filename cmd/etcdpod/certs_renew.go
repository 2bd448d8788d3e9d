package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/certs"
)

func (s *session) certsRenewCommand() *cli.Command {
	return &cli.Command{
		Name: "certs renew", ArgsUsage: "[NAME…]",
		Usage: "give etcd's certificates a new life, and start anew what uses them",
		Description: `NAME is etcd-server, etcd-peer, etcd-healthcheck-client or apiserver-etcd-client; without one, or with all, it is every one of them that is there. Each gets a new key and a new certificate, signed by the CA whose key is beside it, for all the names and addresses of the old one and for those that kubeadm's configuration asks for. What uses them is started anew, etcd first, then the API server, and what etcd shows to who dials it is held against the files.

A failure or an interrupt takes everything back. After a crash, etcdpod resume finishes the run, or etcdpod rollback undoes it. The old certificates and keys are kept in the run's folder until etcdpod prune.

With several members, renew on one node after the other: it is refused where the cluster would stand still meanwhile because others do not answer (of two members both are needed, and it does stand still for that moment). Without the CA's key nothing can be renewed here: certs generate-csr makes requests, and --from takes the certificates that were signed, from beside their keys. The certificates of the API server itself are kubeadm's to renew.

A running node is changed only after a yes on the terminal; without a terminal, --yes is needed.`,
		UsageText: `etcdpod certs renew --dry-run
etcdpod certs renew
etcdpod certs renew apiserver-etcd-client`,
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "from", Usage: "take what an external CA has signed, with its keys, from the directory " +
					"`DIR` that certs generate-csr wrote to",
			},
			&cli.DurationFlag{
				Name:        "stop-timeout",
				DefaultText: "30s for one etcd of several, none for one alone, 3s for the API server",
				Usage:       "give the containers `TIME` to end by themselves",
			},
			&cli.DurationFlag{Name: "wait-timeout", Value: 2 * time.Minute,
				Usage: "give etcd, and then the API server, `TIME` to serve"},
		},
		Action: s.certsRenew,
	}
}

func (s *session) certsRenew(c *cli.Context) error {
	workflow := certs.Renew(certs.RenewOptions{Names: c.Args().Slice(),
		From: c.String("from"), StopTimeout: c.Duration("stop-timeout"), WaitTimeout: c.Duration("wait-timeout")})
	return s.carryOut(c, change{
		workflow: workflow,
		said:     "Renewed, by the run %s. The old certificates and keys are kept until `etcdpod prune`.",
	})
}

func (s *session) certsRequestCommand() *cli.Command {
	return &cli.Command{
		Name: "certs generate-csr", ArgsUsage: "[NAME…]", Usage: "make keys, and requests for an external CA to sign",
		Description: `For clusters whose etcd CA keeps its key elsewhere. NAME is as for certs renew. Each certificate gets a new key and a request, in files below --csr-dir as kubeadm names them (etcd/server.key, etcd/server.csr), for root alone. Unlike kubeadm's, a request asks for the extended key usage, without which etcd and the API server refuse the certificate. Nothing that is in use is changed, and no file that is there is overwritten.

Certificates that are in use say themselves for whom they are: a request asks for what certs renew would take. When the CA has signed them, put each certificate beside its key (etcd/server.crt), and type certs renew --from.

For a node that has none yet, --config names kubeadm's configuration, and a request asks for what init would make of it. Any of the other flags of init that are taken here does the same without a file, with kubeadm's defaults. This needs neither kubelet nor container runtime nor API server nor CA, and with --root works on an empty directory, without being root. Without NAME it is for those that are not there, with all for all of them. When the CA has signed them, copy the certificates and their keys to where kubeadm keeps them, with the CA's certificate, and go on with init or join, which take them as they are.

A failure or an interrupt takes everything back. After a crash, etcdpod resume finishes the run, or etcdpod rollback undoes it.`,
		UsageText: `etcdpod certs generate-csr --csr-dir /root/csr
etcdpod certs generate-csr --config kubeadm.yaml --csr-dir /root/csr`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "csr-dir", Usage: "write keys and requests below the directory `DIR`"},
		}, requestFlags()...),
		Action: s.certsRequest,
	}
}

// requestFlags are init's flags for the names in a certificate.
func requestFlags() []cli.Flag {
	return slices.DeleteFunc(initFlags(), func(f cli.Flag) bool {
		return !slices.Contains([]string{"config", "allow-experimental-api",
			"node-name", "apiserver-advertise-address", "cert-dir"}, f.Names()[0])
	})
}

func (s *session) certsRequest(c *cli.Context) error {
	options := certs.RequestOptions{Names: c.Args().Slice(), Dir: c.String("csr-dir")}
	if slices.ContainsFunc(requestFlags(), func(f cli.Flag) bool { return c.IsSet(f.Names()[0]) }) {
		configured := kubeadmOptions(c)
		options.Kubeadm = &configured
	}
	if err := certs.Request(options).Checked(); err != nil {
		return err
	}
	if err := s.asRoot(c); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return s.preview(c, certs.Request(options))
	}
	var made certs.Requests
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		made, err = certs.MakeRequests(c.Context, n.Engine(), certs.Request(options).On(n.Look))
		return err
	})
	if err != nil {
		return err
	}
	s.doneWith(c, made, func(w io.Writer) {
		for _, file := range made.Requests {
			fmt.Fprintln(w, file)
		}
	})
	return nil
}
