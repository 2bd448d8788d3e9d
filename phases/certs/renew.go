package certs

import (
	"context"
	"fmt"
	"net"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// RenewOptions are the options of `certs renew`.
type RenewOptions struct {
	// The certificates, by kubeadm's names; none, or all: the existing ones of etcd and its
	// clients.
	Names []string
	// A host path: take certificates from there that the keeper of another CA has signed, instead
	// of signing them here. Its layout is that of `certs generate-csr`.
	From string
	// For a program to stop by itself; 0: see grace.
	StopTimeout time.Duration
	// For it to serve again; 0: 2 minutes.
	WaitTimeout time.Duration
}

// Renew is the workflow that renews certificates of etcd, and of its clients on this node. It
// restarts the programs that use them, one pod after the other.
func Renew(o RenewOptions) workflow {
	return workflow{Name: "renew", Options: o.check, Observe: o.observe, Stakes: o.stakes,
		Phases: []phase{
			o.preflight(),
			o.issue(),
			o.replace(),
			o.restartEtcd(),
			o.restartAPIServer(), // the commit point is at its end
		}}
}

// stakes: nothing is lost, and the old certificates can be put back by hand.
func (o RenewOptions) stakes(f *Facts) engine.Stakes {
	return engine.Stakes{Back: []string{fmt.Sprintf("the old certificates and keys are kept in %s until `etcdpod "+
		"prune` deletes them", journal.OldCerts(f.Run))}}
}

type (
	phase = engine.Phase[*Facts]
	// workflow renews certificates, or requests them.
	workflow = engine.Workflow[*observe.Node, *Facts]
)

// Facts are what renewing or requesting certificates depends on.
type Facts struct {
	*observe.Facts
	// For the certificates in use; nil when kubeadm's configuration says which to request.
	Renewal *RenewalFacts
	Request *RequestFacts
}

func (o RenewOptions) issue() phase {
	return phase{Name: "issue-certificates", Short: "create new keys and certificates in the run's folder",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			ops := []op.Op{&op.MakeDirectory{Path: journal.NewCerts(f.Run), Attr: node.Mine(0o700)}}
			for _, use := range f.Renewal.Uses {
				if signed, ok := f.Renewal.Signed[use.name]; ok {
					ops = append(ops, &op.AdoptCertificate{Name: use.name,
						From: signed.base, To: path.Join(journal.NewCerts(f.Run), use.name), Sums: signed.sums})
					continue
				}
				ops = append(ops, &op.IssueCertificate{Issuance: f.issuance(use),
					To: path.Join(journal.NewCerts(f.Run), use.name)})
			}
			return ops, nil
		}}
}

// issuance is what a renewed certificate is made from.
func (f *Facts) issuance(use certUse) op.Issuance {
	c := f.Renewal.Config
	i := op.Issuance{
		Name: use.name, Old: use.leaf.CertFile, CACert: use.leaf.CAFile, CAKey: caKeyOf(use.leaf.CAFile),
		NodeName: f.Node, Algorithm: c.EncryptionAlgorithm, Validity: c.CertificateValidityPeriod,
	}
	switch use.port {
	case "client":
		i.SANs = slices.Concat(c.ServerCertSANs, use.leaf.Names.Strings())
	case "peer":
		i.SANs = slices.Concat(c.PeerCertSANs, use.leaf.Names.Strings())
	}
	if f.Etcd != nil { // kubeadm advertises etcd at the API server's address
		for _, host := range observe.HostsOf(slices.Concat(f.Etcd.PeerURLs, f.Etcd.ClientURLs)) {
			if net.ParseIP(host) != nil {
				i.AdvertiseAddress = host
				break
			}
		}
	}
	if i.Foreign = f.foreign(use); i.Foreign && i.AdvertiseAddress == "" {
		i.AdvertiseAddress = "127.0.0.1" // it is in each of them
	}
	return i
}

// foreign says whether a certificate with names is another machine's, whose files were copied here:
// it is neither for this node's name nor for anything that this member advertises.
func (f *Facts) foreign(use certUse) bool {
	if use.port == "" || f.Etcd == nil {
		return false
	}
	own := []string{f.Node, f.Renewal.Host}
	for _, host := range observe.HostsOf(slices.Concat(f.Etcd.PeerURLs, f.Etcd.ClientURLs)) {
		if !observe.Loopback(host) {
			own = append(own, host)
		}
	}
	c, err := pki.Inspect(use.leaf.CertFile, use.leaf.Cert, f.Now)
	return err == nil && !slices.ContainsFunc(append(c.SANs, c.Subject),
		func(name string) bool { return name != "" && slices.Contains(own, name) })
}

func (o RenewOptions) replace() phase {
	return phase{Name: "replace-certificates", Short: "swap in the new ones, keeping the old ones",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			ops := []op.Op{&op.MakeDirectory{Path: journal.OldCerts(f.Run), Attr: node.Mine(0o700)}}
			for i, pod := range o.pods(f) {
				back := o.restart(f, pod, true)
				if i == 0 {
					back.Served = o.served(f)
				}
				ops = append(ops, back)
			}
			for _, use := range f.Renewal.Uses {
				ops = append(ops, &op.ReplaceCertificate{
					Name: use.name, Cert: use.leaf.CertFile,
					Key: use.leaf.KeyFile, From: path.Join(journal.NewCerts(f.Run), use.name),
					Kept: path.Join(journal.OldCerts(f.Run), use.name),
				})
			}
			return ops, nil
		}}
}

// served is what must serve again if the run goes back.
func (o RenewOptions) served(f *Facts) *op.Before {
	b := &op.Before{Pods: o.pods(f), Limit: max(o.limit(), renewLimit), Start: observe.StartLimits(o.stops(f)...),
		EtcdPod: observe.Watched(f.Manifests, "etcd").Pod,
		APIPod:  observe.Watched(f.Manifests, "kube-apiserver").Pod}
	if f.Renewal.Serving {
		b.Etcd = &f.Etcd.Access
	}
	if f.Renewal.Ready {
		b.API = &f.API
	}
	return b
}

func (o RenewOptions) restart(f *Facts, pod op.Pod, back bool) *op.RestartPod {
	return &op.RestartPod{Pod: pod, Grace: o.grace(f, pod), Limit: o.limit(), Back: back,
		Start: observe.StartLimits(o.stops(f)...)[pod.Containers[0]]}
}

// grace is how long a program may take to stop. etcd takes 7 s, in which it serves nobody, to drop
// its watchers (server/embed/etcd.go: stopServers), and then hands over the leadership. Only other
// members benefit from that, and no acknowledged write is lost without it. An API server leaves the
// list of API servers at once, and then waits for its watchers too.
func (o RenewOptions) grace(f *Facts, pod op.Pod) time.Duration {
	etcd := f.Etcd != nil && pod.Name == f.Etcd.File.Manifest.Name()
	switch {
	case o.StopTimeout > 0:
		return o.StopTimeout
	case etcd && f.Live != nil && len(f.Live.Members) > 1:
		return 30 * time.Second
	case etcd:
		return 0
	}
	return 3 * time.Second
}

// renewLimit is how long a pod may take to serve again.
const renewLimit = 2 * time.Minute

// restarts says whether a program uses one of the certificates.
func (o RenewOptions) restarts(f *Facts, program string) bool {
	return slices.ContainsFunc(f.Renewal.Uses, func(u certUse) bool { return u.program == program })
}

// pods are those to restart, etcd's first.
func (o RenewOptions) pods(f *Facts) []op.Pod {
	var pods []op.Pod
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if m, c, ok := observe.Program(f.Manifests, name); ok && o.restarts(f, name) {
			pods = append(pods, observe.PodOf(f.Manifests, m, c))
		}
	}
	return pods
}

func (o RenewOptions) restartPod(f *Facts, name string) []op.Op {
	var ops []op.Op
	m, _, ok := observe.Program(f.Manifests, name)
	for _, pod := range o.pods(f) {
		if ok && pod.Name == m.Manifest.Name() {
			ops = append(ops, o.restart(f, pod, false))
		}
	}
	return ops
}

func (o RenewOptions) limit() time.Duration {
	if o.WaitTimeout > 0 {
		return o.WaitTimeout
	}
	return renewLimit
}

// restartEtcd waits only for what worked before: certificates that have expired everywhere are
// renewed on one node after the other, and until then there is no quorum.
func (o RenewOptions) restartEtcd() phase {
	return phase{Name: "restart-etcd", Short: "restart etcd, and check that it serves with the new certificates",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			ops := o.restartPod(f, "etcd")
			if len(ops) > 0 && f.Renewal.Serving {
				ops = append(ops, &op.AwaitAnswer{Access: f.Etcd.Access, Limit: o.limit(),
					Watched: observe.Watched(f.Manifests, "etcd")})
			}
			for _, use := range f.Renewal.Uses {
				if use.program != "etcd" || use.port == "client" && !f.Renewal.Serving {
					continue
				}
				for _, at := range use.addresses {
					if slices.Contains(f.Renewal.Deaf, at) {
						continue
					}
					ops = append(ops, &op.AwaitServed{Program: "etcd", Address: at, Others: use.also[at],
						Access: use.show, File: use.leaf.CertFile, Limit: o.limit(),
						Watched: observe.Watched(f.Manifests, "etcd")})
				}
			}
			return ops, nil
		}}
}

func (o RenewOptions) restartAPIServer() phase {
	return phase{Name: "restart-apiserver", Short: "restart the API server, and wait until it is ready",
		Commit: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			ops := o.restartPod(f, "kube-apiserver")
			if len(ops) > 0 && f.Renewal.Ready {
				ops = append(ops, &op.AwaitAPIServer{API: f.API, Limit: o.limit(),
					Watched: observe.Watched(f.Manifests, "kube-apiserver")})
			}
			return ops, nil
		}}
}
