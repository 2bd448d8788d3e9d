package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
)

func init() {
	offer(sectionAccess, (*session).certsRenewCommand, (*session).certsRequestCommand)
}

func (s *session) certsRenewCommand() *cli.Command {
	return &cli.Command{
		Name: "certs renew", ArgsUsage: "[NAME…]",
		Usage: "renew etcd's certificates, and restart what uses them",
		Description: `NAME is etcd-server, etcd-peer, etcd-healthcheck-client or apiserver-etcd-client; without a NAME, or with all, every one of them that exists is renewed. Each gets a new key and a new certificate, signed by the CA whose key is next to it, for all names and addresses of the old one plus those in kubeadm's configuration. What uses them is restarted, etcd first, then the API server, and what etcd presents to its clients is compared with the files.

A failure or an interrupt undoes everything. After a crash, etcdpod resume finishes the run, or etcdpod rollback undoes it. The old certificates and keys are kept in the run's folder until etcdpod prune.

With several members, renew one node after the other. The command refuses where the cluster would lose quorum meanwhile because other members do not answer. A cluster of two needs both members: it does stop for that moment. Without the CA's key nothing can be renewed here: certs generate-csr creates requests, and --from takes the signed certificates, found next to their keys. The API server's own certificates are kubeadm's to renew.

Before it changes a running node it asks; without a terminal, --yes is needed.`,
		UsageText: `etcdpod certs renew --dry-run
etcdpod certs renew
etcdpod certs renew apiserver-etcd-client`,
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "from", Usage: "take the certificates that an external CA signed, and their keys, from `DIR`, " +
					"where certs generate-csr wrote the requests",
			},
			&cli.DurationFlag{
				Name:        "stop-timeout",
				DefaultText: "30s for one etcd of several, none for one alone, 3s for the API server",
				Usage:       "give the containers `TIME` to shut down",
			},
			&cli.DurationFlag{Name: "wait-timeout", Value: 2 * time.Minute,
				Usage: "give etcd, and then the API server, `TIME` to start serving"},
		},
		Action: s.certsRenew,
	}
}

// meantCertificate refuses a name that is but a slip, or another way to write, of one of etcd's.
func meantCertificate(names []string) error {
	for _, name := range names {
		if slices.Contains(certs.Names(), name) {
			continue
		}
		plain := strings.TrimSuffix(strings.ReplaceAll(name, "/", "-"), ".crt")
		near := nearest(plain, certs.Names())
		if near == "" && slices.Contains(certs.Names(), "etcd-"+plain) {
			near = "etcd-" + plain
		}
		if near != "" {
			return &engine.UsageError{Reason: fmt.Sprintf("unknown certificate %q", name),
				Hint: fmt.Sprintf("did you mean %s?", near)}
		}
	}
	if len(names) > 1 && slices.Contains(names, "all") {
		return &engine.UsageError{Reason: "all stands for every certificate, and needs no other name"}
	}
	return nil
}

func (s *session) certsRenew(c *cli.Context) error {
	if err := meantCertificate(c.Args().Slice()); err != nil {
		return err
	}
	workflow := certs.Renew(certs.RenewOptions{Names: c.Args().Slice(),
		From: c.String("from"), StopTimeout: c.Duration("stop-timeout"), WaitTimeout: c.Duration("wait-timeout")})
	return s.carryOut(c, change{
		workflow: workflow,
		said:     "Renewed by run %s. The old certificates and keys are kept until `etcdpod prune`.",
	})
}

func (s *session) certsRequestCommand() *cli.Command {
	return &cli.Command{
		Name: "certs generate-csr", ArgsUsage: "[NAME…]", Usage: "create keys, and certificate requests for an " +
			"external CA to sign",
		Description: `For clusters whose etcd CA keeps its key elsewhere. NAME is as for certs renew. Each certificate gets a new key and a request, in files below --csr-dir with kubeadm's names (etcd/server.key, etcd/server.csr), readable by root alone. Unlike kubeadm's, a request asks for the extended key usage, without which etcd and the API server reject the certificate. Nothing in use is changed, and no existing file is overwritten.

The certificates in use determine the names: a request asks for what certs renew would issue. Once the CA has signed them, put each certificate next to its key (etcd/server.crt), and run certs renew --from.

For a node that has no certificates yet, --config names kubeadm's configuration, and a request asks for what init would issue. The other flags of init that this command takes do the same without a file, with kubeadm's defaults. This needs no kubelet, container runtime, API server or CA, and with --root it works on an empty directory, without root. Without a NAME the missing certificates are requested, with all every one of them. Once the CA has signed them, copy the certificates and keys to where kubeadm keeps them, with the CA's certificate, and go on with init or join, which use them as they are.

A failure or an interrupt undoes everything. After a crash, etcdpod resume finishes the run, or etcdpod rollback undoes it.`,
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
	if err := meantCertificate(c.Args().Slice()); err != nil {
		return err
	}
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
		return s.preview(c, certs.Request(options), "")
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
