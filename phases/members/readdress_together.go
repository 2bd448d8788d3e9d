package members

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// followLooker is how the nodes are observed. Tests replace it.
type followLooker struct {
	seen func(context.Context, *observe.Node, ReaddressOptions, string) (*ReaddressFacts, error)
	// rendered makes the manifests once more, when all nodes are known.
	rendered func(context.Context, *observe.Node, *ReaddressFacts) error
}

func followsReal() followLooker {
	return followLooker{
		seen: func(ctx context.Context, n *observe.Node, o ReaddressOptions, run string) (*ReaddressFacts, error) {
			f, err := o.observe(ctx, n, run)
			if err == nil && f.Etcd == nil {
				f.Ready = observe.HasAPIServer(f.Facts) && op.Serves(n.API.Ready(ctx, f.API))
			}
			return f, err
		},
		rendered: func(ctx context.Context, n *observe.Node, f *ReaddressFacts) error { return f.rendered(ctx, n) },
	}
}

// ReaddressJoint is what the transaction needs to know about `readdress` on several nodes.
func ReaddressJoint() together.Joint { return followsReal().joint() }

func (l followLooker) joint() together.Joint {
	return together.Joint{
		Name:       "readdress",
		Phases:     together.JointPhases(follower{}.workflow().Phases),
		Last:       undoneLast(),
		BackInTurn: true,
		BackWhole:  true,
		LeftBehind: leftToFollow,
		Answers:    l.answers,
	}
}

// leftToFollow says what to do about a node without which the others have ended the run.
func leftToFollow(node, _ string) string {
	return fmt.Sprintf("`etcdpod members` shows at which peer URL the others look for %[1]s; if the node comes back "+
		"at another address, run `etcdpod readdress` there, and if it does not, `etcdpod remove %[1]s`", node)
}

const (
	askFollowSurvey = "readdress-survey"
	askFollowPlan   = "readdress-plan"
)

// followQuestion asks a node where it is, and is to be.
type followQuestion struct {
	Run, Node string
	Options   ReaddressOptions
}

// FollowSurvey is what the coordinator needs to know of a node.
type FollowSurvey struct {
	Node     string
	Etcd     bool
	Name     string // etcd's
	Member   op.ID  // 0: not known there
	Cluster  uint64 // 0: likewise
	Members  []op.Member
	Quorum   bool   // a quorum lists them
	Unknown  string // why there are none
	Up, Live bool   // its etcd answers; and serves, which takes a quorum
	Starts   bool   // the run starts it
	Answers  []Outsider
	Old, New string
	Here     bool
	Listed   []string // the peer URLs that its etcd advertises
	Peers    []string // those that it is to have
	Before   []string // its client URLs
	Clients  []string // those that it is to have
}

// followPlanQuestion is what all nodes are told.
type followPlanQuestion struct {
	Node        string
	To          Following
	WaitTimeout time.Duration
}

// followPart is one node's part.
type followPart struct {
	*together.Participant
	look  followLooker
	facts *ReaddressFacts
}

func (l followLooker) answers(p *together.Participant) map[string]together.Reply {
	r := &followPart{Participant: p, look: l}
	return map[string]together.Reply{
		askFollowSurvey: together.Given(func(ctx context.Context, q followQuestion) (any, error) {
			return r.survey(ctx, q)
		}),
		askFollowPlan: together.Given(func(ctx context.Context, q followPlanQuestion) (any, error) {
			return r.planned(ctx, q)
		}),
	}
}

func (p *followPart) survey(ctx context.Context, q followQuestion) (s FollowSurvey, err error) {
	if err := engine.RefuseOpen(p.Node.Host.FS); err != nil {
		return s, err
	}
	if p.facts, err = p.look.seen(ctx, p.Node.Look, q.Options, q.Run); err != nil {
		return s, err
	}
	p.Id = q.Run
	f := p.facts
	if f.Etcd == nil && !observe.HasAPIServer(f.Facts) {
		return s, engine.Refuse("leave it out of --nodes", "this node runs neither etcd nor an API server")
	}
	return f.survey(q.Node), nil
}

func (f *ReaddressFacts) survey(node string) FollowSurvey {
	s := FollowSurvey{Node: node, Old: f.Old, New: f.New, Here: f.Here}
	if f.Etcd == nil {
		return s
	}
	s.Etcd, s.Name, s.Live = true, f.Etcd.Name, f.Live != nil
	s.Listed, s.Peers, s.Before, s.Clients = f.Etcd.PeerURLs, f.After.PeerURLs, f.Etcd.ClientURLs, f.After.ClientURLs
	s.Up, s.Starts, s.Cluster = s.Live || f.Up, f.restarts(), f.Cluster
	if f.Own != nil {
		s.Member, s.Members = f.Own.ID, []op.Member{*f.Own}
	}
	switch {
	case f.r != nil:
		s.Members, s.Quorum, s.Answers = f.Move.cluster, f.r.quorum, f.r.answering()
		s.Up = s.Up || f.r.own >= 0 && f.r.answers[f.r.own].Err == nil
	case f.Data != nil:
		s.Cluster, s.Member, s.Members = f.Data.ClusterID, op.ID(f.Data.MemberID), f.Data.Members
	case f.ClusterError != nil:
		s.Unknown = f.ClusterError.Error()
	}
	return s
}

func (p *followPart) planned(ctx context.Context, q followPlanQuestion) (engine.Plan, error) {
	if p.facts == nil {
		return engine.Plan{}, together.ErrNoSurvey
	}
	p.facts.follow(q.To, q.Node)
	if err := p.look.rendered(ctx, p.Node.Look, p.facts); err != nil {
		return engine.Plan{}, err
	}
	plan, err := follower{q.WaitTimeout}.workflow().Planned(ctx, p.facts)
	return p.Joined(plan, &q.To.Cluster), err
}

// ReaddressTogether has the members on several nodes follow their addresses.
func ReaddressTogether(o FollowOptions) together.Planner { return together.Plans(followAll, o) }

func followAll(
	ctx context.Context, n *together.Node, o FollowOptions,
) (*together.Transaction, engine.TogetherPlan, error) {
	var plan engine.TogetherPlan
	if err := o.Check(); err != nil {
		return nil, plan, err
	}
	t, err := n.Convene(ctx, "readdress", together.NodesAt(o.Nodes, o.SSHCommand, o.RemoteCommand))
	if err != nil {
		return t, plan, err
	}
	surveys, err := together.QueryEach[FollowSurvey](ctx, t, askFollowSurvey, func(p *together.Peer) any {
		return followQuestion{Run: t.Run, Node: p.Name, Options: o.on(p.Name)}
	})
	if err != nil {
		return t, plan, err
	}
	to, err := following(surveys)
	if err != nil {
		return t, plan, err
	}
	to.order(t)
	to.Cluster = t.Cluster
	plan.Nodes, err = together.PlanEach(ctx, t, askFollowPlan, func(p *together.Peer) any {
		return followPlanQuestion{p.Name, to, o.WaitTimeout}
	})
	notes := to.notes()
	plan.Notes, plan.Findings, plan.Stakes = finding.Texts(notes), notes, to.stakes(plan.Nodes)
	return t, plan, err
}

// order has the nodes that start first stand first: the way back is the other way round, and they
// are needed there until those that were where the others look for them are there again.
func (to Following) order(t *together.Transaction) {
	later := func(a, b string) int {
		switch x, y := to.node(a).First, to.node(b).First; {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	}
	t.Cluster.Nodes = slices.Clone(t.Cluster.Nodes)
	slices.SortStableFunc(t.Cluster.Nodes, func(a, b journal.Peer) int { return later(a.Name, b.Name) })
	slices.SortStableFunc(t.Peers, func(a, b *together.Peer) int { return later(a.Name, b.Name) })
	byName := slices.Clone(to.Nodes)
	slices.SortStableFunc(byName, func(a, b Follower) int { return later(a.Node, b.Node) })
	copy(to.Nodes, byName)
}

// following puts together what all nodes know, and refuses what would not go well.
func following(surveys []FollowSurvey) (to Following, err error) {
	if err := to.learnFrom(surveys); err != nil {
		return to, err
	}
	answers, err := to.learnNodes(surveys)
	if err != nil {
		return to, err
	}
	return to, to.checkQuorum(answers)
}

// notes are what a person should know beforehand.
func (to Following) notes() []finding.Finding {
	if to.Quorum {
		return nil
	}
	text := "the cluster has no quorum now, and gets it back once the etcds that are down have started; if the run " +
		"goes back, it has none again"
	for _, n := range to.Nodes {
		if n.Later != "" {
			text += fmt.Sprintf("; the others find each other through %s, which stays where it is: run the command "+
				"again afterwards, and it follows to %s", n.Node, n.Later)
		}
	}
	return []finding.Finding{finding.New(finding.EtcdNoWrites, "", "%s", text)}
}

// stakes are what a yes means.
func (to Following) stakes(plans []engine.NodePlan) (s engine.Stakes) {
	var moved, back []string
	s.AwayOn(plans)
	s.InTurn = len(s.AwayNodes) > 1
	for _, n := range to.Nodes {
		if n.Old != "" {
			moved, back = append(moved, n.Node), append(back, n.Node+"="+n.Old)
		}
	}
	if len(back) > 0 {
		s.Back = []string{fmt.Sprintf("once these nodes have their old addresses again: `etcdpod readdress --nodes %s "+
			"--address %s`; the old manifests and certificates are also kept, until `etcdpod prune`",
			strings.Join(moved, ","), strings.Join(back, ","))}
	}
	return s
}
