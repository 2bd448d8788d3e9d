package members

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Another machine takes the place of a member that has failed; where that serves, see handover.go.
// Of three members etcd takes no new one while the failed one is listed, so that one leaves first,
// and etcd never takes an id again: from there on there is no way back. So all that could keep the
// newcomer out is looked at before, as it will be then; and the run can also be ended without it.

// ReplaceOptions are the options of `replace`.
type ReplaceOptions struct {
	Member string // the old one: its id, its name or one of its URLs
	With   journal.Peer
	Nodes  []journal.Peer // those that stay, and that of an old member that serves

	// Of the newcomer: kubeadm's configuration, a path there, and the address to advertise. Empty
	// ones take what `join` takes.
	Config, AdvertiseAddress string

	WaitTimeout time.Duration // for each API server, and for etcd; 0: as `remove` and `join`

	SSHCommand    string // starts a command on a host: its words, the host, the command's words
	RemoteCommand string // etcdpod on the other nodes
}

// Check refuses options that make no sense.
func (o ReplaceOptions) Check() error {
	switch {
	case o.Member == "":
		return &engine.UsageError{Reason: "replace needs a member: its ID, its name or one of its URLs",
			Hint: "`etcdpod members` lists them"}
	case o.With.Name == "":
		return &engine.UsageError{Reason: "replace needs a machine for the new member",
			Hint: "give it as --with NODE or --with NODE=HOST"}
	case slices.ContainsFunc(o.Nodes, func(p journal.Peer) bool { return p.Name == o.With.Name }):
		return &engine.UsageError{Reason: fmt.Sprintf("%s is in --with and in --nodes", o.With.Name),
			Hint: "--nodes are the other nodes; --with is the machine of the new member, also where that is the old " +
				"one's with a new disk"}
	}
	return nil
}

// Newcomer is the new member, as it is going to be.
type Newcomer struct {
	Node       string
	Name       string // etcd's
	PeerURLs   []string
	ClientURLs []string
}

// ReplaceFacts are what one node's part depends on: one of the two is there.
type ReplaceFacts struct {
	*observe.Facts
	Stays *RemoveFacts // of a node that stays
	Joins *Facts       // of the newcomer
}

type (
	replacePhase    = engine.Phase[*ReplaceFacts]
	replaceWorkflow = engine.Workflow[*observe.Node, *ReplaceFacts]
)

// replacer plans one node's part.
type replacer struct {
	ReplaceOptions
	Removal
	Newcomer Newcomer
	Before   []op.ID // all members when the run was planned
	Alive    bool    // the old member serves, and leaves last
}

func (o replacer) workflow() replaceWorkflow {
	if o.Alive {
		return o.handover()
	}
	return replaceWorkflow{Name: "replace", Options: o.Check, Phases: []replacePhase{
		o.preflight(),
		joins(o.joiner().certs()),
		o.wireAPIServers(), // the commit point is at its end
		o.removeMember(),
		stays(o.remover().awaitHealthy()),
		joins(o.addLearner()),
		joins(o.renderEtcd()),
		joins(o.awaitServing()),
		joins(o.promoteLearner()),
		joins(o.joiner().awaitEtcd()),
		stays(o.seeNewcomer()),
		o.wireNewcomer(),
	}}
}

// remover plans what is the same as in a removal.
func (o replacer) remover() remover {
	return remover{RemoveOptions{Member: o.Member, Nodes: o.Nodes, WaitTimeout: o.WaitTimeout}, o.Removal}
}

// joiner plans what is the same as in a join, once the old member has left.
func (o replacer) joiner() JoinOptions {
	j := JoinOptions{InitOptions: InitOptions{WaitTimeout: o.WaitTimeout,
		KubeadmOptions: observe.KubeadmOptions{Config: o.Config, AdvertiseAddress: o.AdvertiseAddress}}}
	if !o.Alive {
		j.gone = o.Gone.ID
	}
	return j
}

// partOf makes a phase of one that only nodes with such facts have a part in.
func partOf[F engine.Observed](p engine.Phase[F], of func(*ReplaceFacts) (F, bool)) replacePhase {
	part := replacePhase{Name: p.Name, Short: p.Short, InTurn: p.InTurn,
		Plan: func(ctx context.Context, f *ReplaceFacts) ([]op.Op, error) {
			if own, has := of(f); has {
				return p.Plan(ctx, own)
			}
			return nil, nil
		}}
	if p.Found != nil {
		part.Found = func(f *ReplaceFacts) []string {
			if own, has := of(f); has {
				return p.Found(own)
			}
			return nil
		}
	}
	if p.Findings != nil {
		part.Findings = func(f *ReplaceFacts) []finding.Finding {
			if own, has := of(f); has {
				return p.Findings(own)
			}
			return nil
		}
	}
	return part
}

// stays is a phase of the nodes that stay.
func stays(p removePhase) replacePhase {
	return partOf(p, func(f *ReplaceFacts) (*RemoveFacts, bool) { return f.Stays, f.Stays != nil })
}

// joins is a phase of the newcomer.
func joins(p phase) replacePhase {
	return partOf(p, func(f *ReplaceFacts) (*Facts, bool) { return f.Joins, f.Joins != nil })
}

// each is a phase in which all nodes have a part, each its own.
func each(name, short string, staying removePhase, joining phase) replacePhase {
	a, b := stays(staying), joins(joining)
	p := replacePhase{Name: name, Short: short,
		Plan: func(ctx context.Context, f *ReplaceFacts) ([]op.Op, error) {
			if f.Joins != nil {
				return b.Plan(ctx, f)
			}
			return a.Plan(ctx, f)
		},
		Found: func(f *ReplaceFacts) (found []string) {
			for _, part := range []replacePhase{a, b} {
				if part.Found != nil {
					found = append(found, part.Found(f)...)
				}
			}
			return found
		},
		Findings: func(f *ReplaceFacts) (found []finding.Finding) {
			for _, part := range []replacePhase{a, b} {
				if part.Findings != nil {
					found = append(found, part.Findings(f)...)
				}
			}
			return found
		}}
	return p
}

// preflight is a removal's on the nodes that stay, and a join's on the newcomer, with the cluster
// as it will be once the old member has left.
func (o replacer) preflight() replacePhase {
	staying, joining := o.remover().preflight(), o.joiner().preflight()
	staying.Findings = o.warnedStaying
	all := joining.Plan
	joining.Plan = func(ctx context.Context, f *Facts) ([]op.Op, error) {
		if err := engine.Passes(f, o.checkNode, checkCleared, checkNoMember); err != nil {
			return nil, err
		}
		return all(ctx, f)
	}
	return each(staying.Name, staying.Short, staying, joining)
}

// warnedStaying leaves out what a removal says about kubeadm: the newcomer is named again.
func (o replacer) warnedStaying(f *RemoveFacts) []finding.Finding {
	m, _, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok || len(o.remover().wish(f).Servers) == 0 {
		return nil
	}
	return f.StartDoubts(m)
}

// checkNode refuses a configuration that is another node's.
func (o replacer) checkNode(f *Facts) error {
	if f.Node == o.With.Name {
		return nil
	}
	return engine.Refuse("correct nodeRegistration.name there, or name the node so in --with",
		"kubeadm's configuration on %s is for the node %s", o.With.Name, f.Node)
}

// checkCleared refuses a machine on which an etcd is set up: as where only its disk was lost. An
// etcd that finds no data may begin a cluster of its own. An API server that has lost its etcd
// answers nobody, the kubelet of its node neither, which starts no pod while it waits for that: two
// minutes, until the API server fails its probes.
func checkCleared(f *Facts) error {
	if f.Init.There == nil {
		return nil
	}
	return engine.Refuse(fmt.Sprintf("move it and kube-apiserver.yaml out of the directory, wait until both have "+
		"exited, and move away what is in %s; then run the command again, and move kube-apiserver.yaml back "+
		"afterwards: an API server without etcd would keep the kubelet waiting for minutes", f.Init.DataDir),
		"%s is there: the new member would not be the only etcd on %s", f.Init.ManifestPath, f.Node)
}

// checkNoMember refuses a machine whose peer URL is another member's.
func checkNoMember(f *Facts) error {
	own := f.Join.Own
	if own == nil {
		return nil
	}
	return engine.Refuse("give another machine as --with; a member that was added and never started is removed with "+
		"`etcdpod remove`", "%s is at %s, where the cluster already has member %s (%s)", f.Node,
		strings.Join(f.Init.Pod.PeerURLs, ","), own.ID, observe.MemberName(own.Member))
}

// wireAPIServers is a removal's. It ends with the commit point: until then nothing has changed for
// the cluster.
func (o replacer) wireAPIServers() replacePhase {
	p := stays(o.remover().wireAPIServers())
	p.Commit = true
	return p
}

// removeMember is on the newcomer, too: a run that is resumed there while it reaches no other node
// must not add it before the old member has left.
func (o replacer) removeMember() replacePhase {
	staying := o.remover().removeMember()
	p := each(staying.Name, staying.Short, staying, phase{Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
		return []op.Op{&op.RemoveMember{Access: f.Join.Through, Member: o.Gone.ID, Name: o.Name,
			Limit: o.joiner().limit(f)}}, nil
	}})
	p.InTurn = true
	return p
}

// addLearner does not compare the members with those of the plan: past the commit point the run
// does not go back because of another one. The manifest names whoever is there by then.
func (o replacer) addLearner() phase {
	return phase{Name: "add-learner", Short: "add the new machine to the cluster as a learner, without a vote",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			return []op.Op{&op.AddLearner{Enrolment: o.joiner().enrolment(f)}}, nil
		}}
}

// renderEtcd is init's, with all members in --initial-cluster.
func (o replacer) renderEtcd() phase {
	p := o.joiner().InitOptions.renderEtcd()
	first := p.Plan
	p.Plan = func(ctx context.Context, f *Facts) ([]op.Op, error) {
		ops, err := first(ctx, f)
		for _, planned := range ops {
			if write, ok := planned.(*op.WriteManifest); ok {
				pod := f.Init.Pod
				write.Joining = &op.Joining{Access: f.Join.Through, Limit: o.joiner().limit(f),
					Planned: observe.FlagOf(pod.File, pod.Container, "initial-cluster")}
			}
		}
		return ops, err
	}
	return p
}

func (o replacer) awaitServing() phase {
	return phase{Name: "await-serving", Short: "wait until the learner has the leader's data and could serve",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			return []op.Op{&op.AwaitServing{Access: f.Init.Access, Through: f.Join.Through,
				ClusterID: op.ID(f.Join.Cluster.ID), Snap: path.Join(f.Init.DataDir, "member", "snap"),
				Limit: o.joiner().limit(f), Watched: f.watched()}}, nil
		}}
}

func (o replacer) promoteLearner() phase {
	return phase{Name: "promote-learner", Short: "give the new member its vote",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			return []op.Op{&op.PromoteLearner{Enrolment: o.joiner().enrolment(f), Watched: f.watched()}}, nil
		}}
}

// seeNewcomer is on every node that stays, so that any of them can end the run without the
// newcomer. It comes before any API server names that.
func (o replacer) seeNewcomer() removePhase {
	return removePhase{Name: "see-newcomer", Short: "see that the new member votes", InTurn: true,
		Plan: func(_ context.Context, f *RemoveFacts) ([]op.Op, error) {
			return []op.Op{&op.SeeNewcomer{Access: f.Through.At(o.Stay...), Node: o.Newcomer.Node,
				PeerURLs: o.Newcomer.PeerURLs, Before: o.Before, Limit: o.remover().limit()}}, nil
		}}
}

// wireNewcomer gives the new member to the API servers that named the old one, and makes the
// newcomer's own use it.
func (o replacer) wireNewcomer() replacePhase {
	const name, short = "wire-newcomer", "point the API servers that used the old member at the new one, one at a time"
	p := each(name, short, removePhase{Plan: func(_ context.Context, f *RemoveFacts) ([]op.Op, error) {
		first := o.remover().wish(f)
		return apiserver.Again(f.Facts, first, o.naming(first), o.Newcomer.Node, o.WaitTimeout)
	}}, o.joiner().wire())
	p.InTurn = true
	return p
}

// naming is what an API server is to use that named the old member: what it uses by then, and the
// newcomer.
func (o replacer) naming(first apiserver.EtcdFlags) apiserver.EtcdFlags {
	then := apiserver.EtcdFlags{Servers: slices.Clone(first.Servers)}
	for _, url := range o.Newcomer.ClientURLs {
		if !slices.Contains(then.Servers, url) {
			then.Servers = append(then.Servers, url)
		}
	}
	return then
}
