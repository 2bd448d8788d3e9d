package members

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"path"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// ReaddressOptions are the options of `readdress`.
type ReaddressOptions struct {
	Address     string        // that the node has now; empty: see decide
	WaitTimeout time.Duration // for etcd, and then for the API server; 0: two minutes
}

// Check refuses options that make no sense.
func (o ReaddressOptions) Check() error {
	if o.Address == "" || net.ParseIP(o.Address) != nil {
		return nil
	}
	return &engine.UsageError{Reason: fmt.Sprintf("--address %s is no IP address", o.Address),
		Hint: "give the address that this node has now, without a port"}
}

func (o ReaddressOptions) limit() time.Duration {
	if o.WaitTimeout > 0 {
		return o.WaitTimeout
	}
	return 2 * time.Minute
}

// Readdress is the workflow that has this node's member, and what depends on it, follow an address
// that changed. etcd starts at the new address before the others are told of it: an etcd reaches
// its peers at their URLs, which did not change, and so gets its quorum back where it was missing.
// Told first, the others would count on a URL at which perhaps nothing ever answers.
func Readdress(o ReaddressOptions) readdressWorkflow {
	return readdressWorkflow{Name: "readdress", Options: o.Check, Observe: o.observe, Stakes: o.stakes,
		Phases: []readdressPhase{
			o.preflight(),
			o.certs(),
			o.renderEtcd(),
			o.setPeerURL(),
			o.awaitEtcd(), // the commit point is at its end
			o.wireAPIServer(),
		}}
}

type (
	readdressPhase    = engine.Phase[*ReaddressFacts]
	readdressWorkflow = engine.Workflow[*observe.Node, *ReaddressFacts]
)

func (o ReaddressOptions) stakes(f *ReaddressFacts) engine.Stakes {
	if f.Old == "" || !f.restarts() {
		return engine.Stakes{}
	}
	return engine.Stakes{Back: []string{fmt.Sprintf("once this node has %s again: `etcdpod readdress --address %s`; "+
		"the old manifests and certificates are also kept, until `etcdpod prune`", f.Old, f.Old)}}
}

// restarts says whether etcd has to start again: it listens, and reads certificates, at its start.
func (f *ReaddressFacts) restarts() bool { return f.EtcdChange != "" || len(f.issued()) > 0 }

// certs makes the certificates for the new address in the run's folder, while etcd may still serve.
func (o ReaddressOptions) certs() readdressPhase {
	return readdressPhase{Name: "certs", Short: "issue etcd's certificates for the new address",
		Plan: func(_ context.Context, f *ReaddressFacts) ([]op.Op, error) {
			issued := f.issued()
			if len(issued) == 0 {
				return nil, nil
			}
			ops := []op.Op{&op.MakeDirectory{Path: journal.NewCerts(f.Run), Attr: node.Mine(0o700)}}
			for _, c := range issued {
				ops = append(ops, &op.IssueCertificate{Issuance: f.issuance(c),
					To: path.Join(journal.NewCerts(f.Run), c.name)})
			}
			return ops, nil
		}}
}

// issuance is what a certificate is made from. It is not the old one renewed, which would keep each
// of its names.
func (f *ReaddressFacts) issuance(c addressCert) op.Issuance {
	return op.Issuance{Name: c.name, Old: c.cert, Foreign: true, CACert: c.ca, CAKey: keyBeside(c.ca),
		NodeName: f.Node, AdvertiseAddress: f.New, SANs: c.keeps,
		Algorithm: f.Config.EncryptionAlgorithm, Validity: f.Config.CertificateValidityPeriod}
}

// keyBeside is kubeadm's name for a CA's key.
func keyBeside(ca string) string { return strings.TrimSuffix(ca, path.Ext(ca)) + ".key" }

// renderEtcd is behind a kubelet that is stopped: one that no API server answers, as is likely
// where an address has changed, starts no other pod in the place of one that it runs. Whatever of
// it is interrupted, etcd's data is the same: the kubelet may start it from the old manifest or
// the new.
func (o ReaddressOptions) renderEtcd() readdressPhase {
	return readdressPhase{Name: "render-etcd",
		Short: "stop etcd, put the new certificates and its new manifest in place, and start it at the new address",
		Plan: func(_ context.Context, f *ReaddressFacts) ([]op.Op, error) {
			if !f.restarts() {
				return nil, nil
			}
			m := f.Etcd.File
			kept := path.Join(journal.RunDir(f.Run), "manifests")
			ops := []op.Op{
				&op.MakeDirectory{Path: kept, Attr: node.Mine(0o700)},
				&op.MakeDirectory{Path: journal.OldCerts(f.Run), Attr: node.Mine(0o700)},
				&op.StopKubelet{Before: f.Served(f.Ready, o.limit())},
				&op.EndPod{Pod: observe.PodOf(f.Manifests, m, f.Etcd.Container), Grace: 20 * time.Second,
					Limit: o.limit()},
			}
			for _, c := range f.issued() {
				ops = append(ops, &op.ReplaceCertificate{Name: c.name, Cert: c.cert, Key: c.key,
					From: path.Join(journal.NewCerts(f.Run), c.name),
					Kept: path.Join(journal.OldCerts(f.Run), c.name)})
			}
			if f.EtcdChange != "" {
				ops = append(ops, &op.ReplaceManifest{Path: m.Path, Data: f.After.File.Data, Change: f.EtcdChange,
					Old: fmt.Sprintf("%x", sha256.Sum256(m.Data)), Kept: path.Join(kept, path.Base(m.Path))})
			}
			return append(ops, &op.StartKubelet{},
				&op.AwaitPeer{Peer: f.After.Peer, Limit: o.limit(), Watched: o.watched(f)}), nil
		}}
}

func (o ReaddressOptions) watched(f *ReaddressFacts) op.Watched {
	return observe.WatchedIn(f.Manifests, f.After.File, f.After.Container)
}

// setPeerURL tells the other members. Where there are none, etcd itself is asked, which serves by
// then at its new address.
func (o ReaddressOptions) setPeerURL() readdressPhase {
	return readdressPhase{Name: "set-peer-url", Short: "have the other members reach this one at its new peer URL",
		Plan: func(_ context.Context, f *ReaddressFacts) ([]op.Op, error) {
			if !f.moves() {
				return nil, nil
			}
			return []op.Op{&op.SetPeerURLs{Ways: f.Ways, Member: f.Own.ID, Name: observe.MemberName(*f.Own),
				Before: f.Own.PeerURLs, After: f.After.PeerURLs, Limit: o.limit(), Without: f.First && f.Without}}, nil
		}}
}

// awaitEtcd ends with the commit point: this member serves at its new address, with a quorum that
// has agreed on its peer URL. Until then everything goes back, the peer URL too. From then on the
// others count on it there, and clients write through it.
func (o ReaddressOptions) awaitEtcd() readdressPhase {
	return readdressPhase{Name: "await-etcd", Short: "wait until etcd serves at its new address", Commit: true,
		Plan: func(_ context.Context, f *ReaddressFacts) ([]op.Op, error) {
			if !f.restarts() && !f.moves() {
				return nil, nil
			}
			ops := []op.Op{&op.AwaitAnswer{Access: f.After.Access, ClusterID: op.ID(f.Cluster), Limit: o.limit(),
				Watched: o.watched(f)}}
			for _, c := range f.issued() {
				ops = append(ops, &op.AwaitServed{Program: "etcd", Address: c.at, Access: f.After.Access, File: c.cert,
					Limit: o.limit(), Watched: o.watched(f)})
			}
			return ops, nil
		}}
}

// wireAPIServer comes after the commit point: with its old flags the API server reached this etcd,
// if at all, at the address that is gone.
func (o ReaddressOptions) wireAPIServer() readdressPhase {
	return readdressPhase{Name: "wire-apiserver",
		Short: "put the new address into the API server's manifest where it has the old one", Optional: true,
		Plan: func(_ context.Context, f *ReaddressFacts) ([]op.Op, error) {
			m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
			switch {
			case !ok:
				return nil, nil
			case f.APIChange == "" && f.Ready && f.restarts():
				return []op.Op{&op.AwaitAPIServer{API: f.API, Limit: o.limit(),
					Watched: observe.Watched(f.Manifests, "kube-apiserver")}}, nil
			case f.APIChange == "":
				return nil, nil
			}
			kept := path.Join(journal.RunDir(f.Run), "manifests")
			pod := observe.PodOf(f.Manifests, m, container)
			return []op.Op{
				&op.MakeDirectory{Path: kept, Attr: node.Mine(0o700)},
				&op.ReplaceManifest{Path: m.Path, Data: f.APIServer.Data, Change: f.APIChange,
					Old: fmt.Sprintf("%x", sha256.Sum256(m.Data)), Kept: path.Join(kept, path.Base(m.Path))},
				&op.AwaitReplaced{Pod: pod, Before: f.podUID(pod), API: f.APIAfter, Grace: 3 * time.Second,
					Limit: o.limit(), Start: observe.StartLimit(m, container)},
			}, nil
		}}
}

// podUID is the UID of the pod that runs; empty: none does.
func (f *ReaddressFacts) podUID(pod op.Pod) string {
	for _, c := range f.Containers {
		if pod.Owns(c) && c.State == "running" {
			return c.PodUID
		}
	}
	return ""
}
