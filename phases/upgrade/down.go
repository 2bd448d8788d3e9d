package upgrade

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// Down by one minor goes by etcd's own protocol (op/downgrade.go). What must hold, besides what
// carry.go says:
//
//   - No member is replaced before the version of the cluster and the data of all members are those
//     of the older minor, and before all nodes hold the commit record. Until then the downgrade is
//     cancelled by whichever node goes back.
//   - From the first member on that is replaced there is only forward: the way back is an upgrade.
//   - What somebody else has enabled is gone on with, and not cancelled.

// DownTogether takes etcd down to the minor before on all nodes.
func DownTogether(o TogetherOptions) together.Planner {
	o.Down = true
	return together.Plans(looksReal().planAll, o)
}

// DownJoint is what the transaction needs to know about `downgrade`.
func DownJoint() together.Joint { return looksReal().downJoint() }

func (l looker) downJoint() together.Joint {
	return together.Joint{
		Name:       "downgrade",
		Phases:     together.JointPhases(Part{Down: true}.carrying().Phases),
		BackInTurn: true,
		Before: map[string]func(context.Context, *together.Transaction) error{
			enableIt: noneLost, awaitLowered: noneLost, replaceMembers: allAsked},
		LeftBehind: leftDown,
		Answers:    l.answers,
	}
}

const (
	enableIt       = "enable"
	awaitLowered   = "await-storage-version"
	replaceMembers = "replace-members"
)

// noneLost lets nothing be enabled, and no commit point come, without a node that is destroyed: the
// leader lowers the version of the cluster only if all members answer.
func noneLost(_ context.Context, t *together.Transaction) error {
	for _, n := range t.Cluster.Nodes {
		here := slices.ContainsFunc(t.Peers, func(p *together.Peer) bool { return p.Name == n.Name })
		if !here && !t.Mute(n.Name) {
			return engine.WithHint(fmt.Errorf("etcd goes down only with all its members, and %s is lost", n.Name),
				fmt.Sprintf("remove its member first, with `etcdpod remove %s`", n.Name))
		}
	}
	return nil
}

// allAsked lets no member be replaced while another's node cannot be asked: that one's turn may
// have been cut off in the middle, and then two might wait for each other.
func allAsked(_ context.Context, t *together.Transaction) error {
	var mute []string
	for _, n := range t.Cluster.Nodes {
		if t.Mute(n.Name) {
			mute = append(mute, n.Name)
		}
	}
	if len(mute) == 0 {
		return nil
	}
	return engine.WithHint(fmt.Errorf("members are replaced one after the other, and %s cannot be asked how far it "+
		"is", strings.Join(mute, ", ")),
		"run `etcdpod resume` once it is reachable; one that is destroyed is named with --lost")
}

// leftDown says what to do about a node without which the others have ended the run.
func leftDown(node, _ string) string {
	return fmt.Sprintf("`etcdpod members` shows which etcd the member on %[1]s runs, if any; if the node does not "+
		"come back, run `etcdpod remove %[1]s`: etcd ends a downgrade only once all members answer", node)
}

// goingDown is the workflow of one node's part.
func (p Part) goingDown() workflow {
	return workflow{Name: "downgrade", Stakes: stakes, Phases: []phase{
		p.preflight(),
		p.pullImages(),
		p.backup(),
		p.enableDowngrade(),
		p.awaitStorage(), // the commit point is at its end
		p.replaceDown(),
		p.verifyEnded(),
		p.setTag(),
	}}
}

// downgrade is what its operations need.
func (p Part) downgrade(f *Facts) op.Downgrade {
	return op.Downgrade{Access: f.Etcd.Access, Others: p.Others, Version: minorText(p.To) + ".0", Limit: p.wait()}
}

// enableDowngrade stands on the last node, once all others have what cancels it: whichever of
// them is destroyed, the others can.
func (p Part) enableDowngrade() phase {
	return phase{Name: enableIt, InTurn: true,
		Short: "enable the downgrade: the leader lowers the version of the cluster",
		Plan: func(_ context.Context, f *Facts) (ops []op.Op, _ error) {
			if f.After == nil {
				return nil, nil
			}
			if !p.Adopted {
				ops = append(ops, &op.CancelDowngrade{Downgrade: p.downgrade(f), From: p.From + ".0"})
			}
			if p.Enables {
				ops = append(ops, &op.EnableDowngrade{Downgrade: p.downgrade(f)})
			}
			return ops, nil
		}}
}

func (p Part) awaitStorage() phase {
	return phase{Name: awaitLowered, Commit: true,
		Short: "wait until the data of all members can be read by the older etcd",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if f.After == nil {
				return nil, nil
			}
			return []op.Op{&op.AwaitStorageVersion{Downgrade: p.downgrade(f)}}, nil
		}}
}

func (p Part) replaceDown() phase {
	return phase{Name: replaceMembers, InTurn: true,
		Short: "replace one etcd after the other, each once all others serve",
		Plan:  func(_ context.Context, f *Facts) ([]op.Op, error) { return p.replacement(f), nil }}
}

// held is what sees, before a member's turn, that the older etcd will start there.
func (p Part) held(f *Facts, stopped bool) *op.HoldDowngrade {
	return &op.HoldDowngrade{Downgrade: p.downgrade(f), Stopped: stopped,
		Marker: path.Join(journal.RunDir(f.Run), "downgrade-cancelled")}
}

func (p Part) verifyEnded() phase {
	return phase{Name: "verify-ended", Short: "see that the leader has ended the downgrade",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if f.Etcd == nil || f.Seen.MemberID == 0 || p.Of == 0 {
				return nil, nil
			}
			return []op.Op{&op.AwaitDowngraded{Downgrade: p.downgrade(f)}}, nil
		}}
}

// enabling says which part enables the downgrade: that of the last turn.
func enabling(all []named, adopted bool) {
	for i := range all {
		p := &all[i]
		p.Adopted, p.Enables = adopted, p.Of > 0 && p.Turn == p.Of
	}
}

// validated asks etcd itself, unless the downgrade is enabled already.
func (l looker) validated(ctx context.Context, n *observe.Node, o TogetherOptions, judged Plan, adopted bool) error {
	if !o.Down || adopted || judged.Verdict == Nothing {
		return nil
	}
	err := l.valid(ctx, n, minorText(o.To)+".0")
	if err == nil || ctx.Err() != nil {
		return err
	}
	return engine.Refuse("`etcdpod members -o json` shows which version each member runs, and of which its data are; "+
		"wait until they agree", "etcd does not let a downgrade to %s begin: %v", minorText(o.To), err)
}

// refusedDown is the verdict, with all that stands in the way: there is no plan to look it up in.
func refusedDown(p Plan) error {
	if p.Verdict == Well || p.Verdict == Nothing {
		return nil
	}
	var reasons []string
	worst, next := NotWell, p.Next
	weight := map[Verdict]Weight{NotWell: Blocks, Unknown: Doubts}[p.Verdict]
	for _, t := range p.Told() {
		if t.Weight == weight {
			reasons = append(reasons, t.Where()+t.Text)
		}
	}
	begins := "This will not end well, because "
	if p.Verdict != worst {
		begins = "Nobody can tell yet whether this will end well, because "
	}
	return engine.Refuse(next, "%s%s", begins, strings.Join(reasons, "; and because "))
}

// validates asks this node's etcd.
func validates(ctx context.Context, n *observe.Node, target string) error {
	files, err := n.Manifests(ctx, n.Config.StaticPodPath)
	if err != nil {
		return err
	}
	pod, err := n.EtcdPod(files)
	if err != nil || pod == nil {
		return err // which is said, or etcd is on other nodes
	}
	return n.Etcd.ValidateDowngrade(ctx, pod.Access, target)
}
