package members

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// RemoveOptions are the options of `remove`.
type RemoveOptions struct {
	Member      string // its id, its name or one of its URLs
	Nodes       []journal.Peer
	WaitTimeout time.Duration // for each API server, and for etcd; 0: two minutes
	NoSpare     bool          // even if the cluster then survives no further loss

	SSHCommand    string // starts a command on a host: its words, the host, the command's words
	RemoteCommand string // etcdpod on the other nodes
}

// Check refuses options that make no sense.
func (o RemoveOptions) Check() error {
	if o.Member == "" {
		return &engine.UsageError{Reason: "remove needs a member: its ID, its name or one of its URLs",
			Hint: "`etcdpod members` lists them"}
	}
	return nil
}

func (o RemoveOptions) limit() time.Duration {
	if o.WaitTimeout > 0 {
		return o.WaitTimeout
	}
	return 2 * time.Minute
}

// Removal is what all nodes of a removal have been told.
type Removal struct {
	Cluster journal.Cluster
	Gone    op.Member
	Name    string   // for messages
	URLs    []string // its client URLs
	Stay    []string // client URLs of the voting members that stay
	Known   []string // client URLs of all members that stay
	Node    string   // of the run's nodes the one on which it runs; empty: none
	// Live: without it the cluster as it is now has no quorum, so it leaves while it runs, and is
	// stopped right after.
	Live bool
}

// RemoveFacts are what one node's part in a removal depends on.
type RemoveFacts struct {
	*observe.Facts
	Through op.Access // how this node reaches the members
	// Answers are who answers this node's API server at its own --etcd-servers; nil: not asked.
	Answers []apiserver.Answer
}

type (
	removePhase    = engine.Phase[*RemoveFacts]
	removeWorkflow = engine.Workflow[*observe.Node, *RemoveFacts]
)

// remover plans one node's part.
type remover struct {
	RemoveOptions
	Removal
}

func (o remover) workflow() removeWorkflow {
	return removeWorkflow{Name: "remove", Options: o.Check, Phases: []removePhase{
		o.preflight(),
		o.wireAPIServers(),
		o.stopMember(), // the commit point is at its end
		o.removeMember(),
		o.awaitHealthy(),
	}}
}

// leaves says whether the member that is removed runs on this node.
func (o remover) leaves(f *RemoveFacts) bool { return o.Node != "" && o.Node == f.Node }

func (o remover) preflight() removePhase {
	return removePhase{Name: "preflight", Short: "check everything first", Found: o.found, Findings: o.warned,
		Plan: func(_ context.Context, f *RemoveFacts) ([]op.Op, error) {
			checks := []func(*RemoveFacts) error{o.checkNode, o.checkNamed}
			if o.leaves(f) {
				checks = append(checks, checkStops)
			}
			return nil, engine.Passes(f, checks...)
		}}
}

func (o remover) checkNode(f *RemoveFacts) error {
	if err := f.CheckRuntime(); err != nil {
		return err
	}
	if err := f.CheckManifests(); err != nil {
		return err
	}
	if m, c, ok := observe.Program(f.Manifests, "kube-apiserver"); ok && len(o.wish(f).Servers) > 0 {
		if err := f.CheckStarts(m); err != nil {
			return err
		}
		if apiserver.EtcdFlagsOf(m, c).Servers != nil && len(o.Stay) == 0 {
			return engine.Refuse("set --advertise-client-urls on the members that stay",
				"none of them advertises a client URL for the API server of this node")
		}
	}
	return f.CheckKubeletRuns("change a static pod", "start the kubelet first")
}

// checkStops refuses to stop an etcd that could not start again if the run went back.
func checkStops(f *RemoveFacts) error {
	if f.Etcd == nil {
		return nil
	}
	return f.CheckStarts(f.Etcd.File)
}

func (o remover) found(f *RemoveFacts) (found []string) {
	if o.leaves(f) {
		how := "it is stopped"
		if o.Live {
			how = "until it has left, the cluster has no quorum without it, so it leaves while it runs, and is " +
				"stopped right after"
		}
		found = append(found, fmt.Sprintf("member %s (%s) runs here: %s, and its data stays in %s",
			o.Gone.ID, o.Name, how, f.Etcd.DataDir))
	}
	if m, _, ok := observe.Program(f.Manifests, "kube-apiserver"); ok && len(o.wish(f).Servers) == 0 {
		found = append(found, o.unnamed(f, m.Path)...)
	}
	return found
}

func (o remover) warned(f *RemoveFacts) []finding.Finding {
	m, _, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok || len(o.wish(f).Servers) == 0 {
		return nil
	}
	return append(f.StartDoubts(m), finding.New(finding.KubeadmSetting, m.Path, "`kubeadm upgrade` restores kubeadm's "+
		"own setting of --etcd-servers: before that, reset this node with `kubeadm reset` or give it a member again "+
		"with `etcdpod join`"))
}

// wish is what this node's API server is to use; no servers: it does not name the member.
func (o remover) wish(f *RemoveFacts) apiserver.EtcdFlags {
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return apiserver.EtcdFlags{}
	}
	now := apiserver.EtcdFlagsOf(m, container).Servers
	stay := slices.DeleteFunc(slices.Clone(now), func(url string) bool { return o.names(f, url) == theLeaving })
	switch len(stay) {
	case len(now):
		return apiserver.EtcdFlags{}
	case 0:
		stay = o.Stay
	}
	return apiserver.EtcdFlags{Servers: stay}
}

// wireAPIServers puts the API servers in line, one at a time, before the member goes: none of them
// is ever left with an etcd that is gone.
func (o remover) wireAPIServers() removePhase {
	p := apiserver.Wire(func(f *RemoveFacts) *observe.Facts { return f.Facts }, o.wish, o.WaitTimeout)
	p.Name, p.Short = "wire-apiservers", "point the API servers that use the member at the others, one at a time"
	p.Optional, p.InTurn, p.Found = false, true, nil
	return p
}

// stopMember ends with the commit point. Until then nothing has changed for the cluster: if the run
// goes back, the member starts again under its id.
func (o remover) stopMember() removePhase {
	return removePhase{Name: "stop-member", Short: "stop the member's etcd, if it runs on one of the nodes",
		Commit: true,
		Plan: func(_ context.Context, f *RemoveFacts) ([]op.Op, error) {
			if !o.leaves(f) {
				return nil, nil
			}
			stop := o.stop(f)
			var ops []op.Op
			if len(o.wish(f).Servers) == 0 { // else wire-apiservers has made it
				ops = append(ops, &op.MakeDirectory{Path: path.Dir(stop.To), Attr: node.Mine(0o700)})
			}
			if o.Live {
				return ops, nil
			}
			stop.Served = &op.Before{Pods: []op.Pod{stop.Pod}, Limit: o.limit(),
				Start: observe.StartLimits(f.Etcd.File)}
			if f.Live != nil {
				stop.Served.Etcd = &f.Etcd.Access
			}
			return append(ops, stop), nil
		}}
}

// stop takes the etcd of this node out of service.
func (o remover) stop(f *RemoveFacts) *op.StopMember {
	m := f.Etcd.File
	return &op.StopMember{
		TakeOutManifest: op.TakeOutManifest{From: m.Path,
			To:     path.Join(journal.RunDir(f.Run), "manifests", path.Base(m.Path)),
			SHA256: fmt.Sprintf("%x", sha256.Sum256(m.Data))},
		Pod:   observe.PodOf(f.Manifests, m, m.Manifest.Containers()...),
		Grace: 20 * time.Second, Limit: o.limit(), Left: o.Live,
	}
}

// removeMember comes after the commit point: nothing takes it back. Every node that stays has the
// operation, so that the run can be finished without any one of them. A node whose etcd is stopped
// only after that has it, too: it must not stop what has not left.
func (o remover) removeMember() removePhase {
	return removePhase{Name: "remove-member", Short: "remove the member from the cluster, for good", InTurn: true,
		Plan: func(_ context.Context, f *RemoveFacts) ([]op.Op, error) {
			if o.leaves(f) && len(o.Cluster.Nodes) > 1 && !o.Live {
				return nil, nil
			}
			remove := &op.RemoveMember{Access: f.Through.At(o.Stay...), Member: o.Gone.ID, Name: o.Name,
				Limit: o.limit()}
			if !o.Live {
				return []op.Op{remove}, nil
			}
			running := f.Through.At(o.URLs...)
			remove.Running = &running
			if o.leaves(f) {
				return []op.Op{remove, o.stop(f)}, nil
			}
			return []op.Op{remove}, nil
		}}
}

func (o remover) awaitHealthy() removePhase {
	return removePhase{Name: "await-healthy", Short: "wait until the other members serve without it",
		Plan: func(_ context.Context, f *RemoveFacts) ([]op.Op, error) {
			if f.Etcd == nil || o.leaves(f) {
				return nil, nil
			}
			return []op.Op{&op.AwaitAnswer{Access: f.Etcd.Access, Limit: o.limit(),
				Watched: observe.WatchedIn(f.Manifests, f.Etcd.File, f.Etcd.Container)}}, nil
		}}
}
