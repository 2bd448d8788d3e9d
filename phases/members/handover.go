package members

import (
	"context"

	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// A member that serves leaves last: the new one votes and serves by then, and until the commit
// point the cluster can be as before, without it.

// handover is the replacement of a member that serves.
func (o replacer) handover() replaceWorkflow {
	return replaceWorkflow{Name: "handover", Options: o.Check, Phases: []replacePhase{
		o.preflight(),
		stays(o.admit()),
		joins(o.joiner().certs()),
		joins(o.joiner().addLearner()),
		joins(o.joiner().renderEtcd()),
		joins(o.awaitServing()),
		joins(o.promoteLearner()),
		joins(o.joiner().awaitEtcd()),
		o.wireBoth(),
		o.stopOld(), // the commit point is at its end
		o.removeMember(),
		stays(o.remover().awaitHealthy()),
	}}
}

// entering are the phases in which the new member comes in. They are undone last, when no API
// server names it any more and the old member serves again.
func entering() []string {
	return []string{"admit-newcomer", "certs", "add-learner", "render-etcd", "await-serving", "promote-learner",
		"await-etcd"}
}

// admit is on every node that stays, so that the new member leaves if the run goes back without its
// machine.
func (o replacer) admit() removePhase {
	return removePhase{Name: "admit-newcomer", Short: "see that the cluster can take the new member, and lose it again",
		Plan: func(_ context.Context, f *RemoveFacts) ([]op.Op, error) {
			if o.remover().leaves(f) {
				return nil, nil
			}
			return []op.Op{&op.AdmitNewcomer{Access: f.Through.At(o.Stay...), Node: o.Newcomer.Node,
				PeerURLs: o.Newcomer.PeerURLs, Before: o.Before, Limit: o.remover().limit()}}, nil
		}}
}

// wireBoth points the API servers that use the old member at the others and the new one, and makes
// the new machine's own use that.
func (o replacer) wireBoth() replacePhase {
	staying := apiserver.Wire(func(f *RemoveFacts) *observe.Facts { return f.Facts },
		func(f *RemoveFacts) apiserver.EtcdFlags {
			first := o.remover().wish(f)
			if len(first.Servers) == 0 {
				return first
			}
			return o.naming(first)
		}, o.WaitTimeout)
	staying.Found = nil
	p := each("wire-apiservers", "point the API servers that use the old member at the others, one at a time", staying,
		o.joiner().wire())
	p.InTurn = true
	return p
}

// stopOld is a removal's.
func (o replacer) stopOld() replacePhase {
	p := stays(o.remover().stopMember())
	p.Commit = true
	return p
}

func (l replaceLooker) handoverJoint() together.Joint {
	return together.Joint{
		Name:   "handover",
		Phases: together.JointPhases(replacer{Alive: true}.workflow().Phases),
		Before: map[string]func(context.Context, *together.Transaction) error{
			"wire-apiservers": newcomerIsThere,
		},
		After: map[string]func(context.Context, *together.Transaction) error{
			"stop-member": mayCommit,
		},
		Last:       entering(),
		Advice:     adviceOnReplacement,
		LeftBehind: leftOut,
		Answers:    l.answers,
	}
}

// HandoverJoint is what the transaction needs to know about the replacement of a member that
// serves.
func HandoverJoint() together.Joint { return replacesReal().handoverJoint() }
