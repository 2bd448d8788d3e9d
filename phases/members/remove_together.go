package members

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// removeLooker is how a removal observes nodes and their cluster. Tests replace it.
type removeLooker struct {
	facts   func(context.Context, *observe.Node, string) (*RemoveFacts, error)
	cluster func(context.Context, *observe.Node, op.Access, []string) (*ClusterFacts, error)
}

func removesReal() removeLooker {
	return removeLooker{facts: observeRemoval, cluster: func(
		ctx context.Context, n *observe.Node, through op.Access, urls []string,
	) (*ClusterFacts, error) {
		ctx, cancel := context.WithTimeout(ctx, askMembers)
		defer cancel()
		access, err := n.Dialer().Access(through.At(urls...))
		if err != nil {
			return nil, err
		}
		all, err := askCluster(ctx, access, urls, nil)
		if err == nil {
			all.askPeers(ctx, access)
		}
		return all, err
	}}
}

// observeRemoval observes one node: etcd, or an API server without one, is enough.
func observeRemoval(ctx context.Context, n *observe.Node, run string) (*RemoveFacts, error) {
	seen, err := n.Observe(ctx, run)
	if err != nil {
		return nil, err
	}
	f := &RemoveFacts{Facts: seen}
	if f.Etcd != nil {
		f.Through = f.Etcd.Access
	} else if as, ok := n.AsClient(f.Manifests); ok {
		f.Through = as
	} else {
		return nil, engine.Refuse("leave it out of --nodes", "this node runs neither etcd nor an API server")
	}
	askNamed(ctx, n, f)
	return f, nil
}

// RemoveJoint is what the transaction needs to know about a removal.
func RemoveJoint() together.Joint { return removesReal().joint() }

func (l removeLooker) joint() together.Joint {
	return together.Joint{
		Name:    "remove",
		Phases:  together.JointPhases(remover{}.workflow().Phases),
		After:   map[string]func(context.Context, *together.Transaction) error{"stop-member": stillServe},
		Advice:  adviceOnRemoval,
		Answers: l.answers,
	}
}

// adviceOnRemoval is for a run that is open past its commit point.
func adviceOnRemoval(cause error) string {
	if strings.Contains(cause.Error(), "is not removed") {
		return "see with `etcdpod members` which of the members that stay do not serve, and start them"
	}
	return ""
}

const (
	askRemoveSurvey = "remove-survey"
	askRemovePlan   = "remove-plan"
	askRemoveServes = "remove-serves"
)

// RemoveSurvey is what the coordinator needs to know of a node.
type RemoveSurvey struct {
	Node       string
	Etcd       bool
	Name       string // etcd's
	MemberID   uint64 // 0: its etcd does not answer
	ClusterID  uint64
	PeerURLs   []string
	ClientURLs []string
	Addresses  []string
	APIServers []string  // addresses of those that its etcd knows
	Through    op.Access // how the node reaches the members
}

// removePart is one node's part in a removal.
type removePart struct {
	*together.Participant
	look  removeLooker
	facts *RemoveFacts
}

func (l removeLooker) answers(p *together.Participant) map[string]together.Reply {
	r := &removePart{Participant: p, look: l}
	return map[string]together.Reply{
		askRemoveSurvey: together.Given(func(ctx context.Context, run string) (any, error) {
			return r.survey(ctx, run)
		}),
		askRemovePlan:   together.Given(func(ctx context.Context, o remover) (any, error) { return r.plan(ctx, o) }),
		askRemoveServes: together.Given(func(ctx context.Context, _ any) (any, error) { return r.serves(ctx) }),
	}
}

func (p *removePart) survey(ctx context.Context, run string) (s RemoveSurvey, err error) {
	if err := engine.RefuseOpen(p.Node.Host.FS); err != nil {
		return s, err
	}
	if p.facts, err = p.look.facts(ctx, p.Node.Look, run); err != nil {
		return s, err
	}
	p.Id = run
	s = RemoveSurvey{Node: p.facts.Node, Addresses: p.facts.Addresses, Through: p.facts.Through}
	if e := p.facts.Etcd; e != nil {
		s.Etcd, s.Name, s.PeerURLs, s.ClientURLs = true, e.Name, e.PeerURLs, e.ClientURLs
	}
	if live := p.facts.Live; live != nil {
		s.MemberID, s.ClusterID, s.APIServers = live.MemberID, live.ClusterID, live.APIServers
	}
	return s, nil
}

func (p *removePart) plan(ctx context.Context, o remover) (engine.Plan, error) {
	if p.facts == nil {
		return engine.Plan{}, together.ErrNoSurvey
	}
	plan, err := o.workflow().Planned(ctx, p.facts)
	return p.Joined(plan, &o.Cluster), err
}

// serves asks the members that stay, through this node's way to them, for a read that needs a
// quorum.
func (p *removePart) serves(ctx context.Context) (bool, error) {
	for _, o := range p.Run.Ops {
		if remove, ok := o.(*op.RemoveMember); ok {
			_, err := p.Node.Etcd.Members(ctx, remove.Access)
			return err == nil, err
		}
	}
	return false, nil
}

// stillServe checks, before the commit point and with the member stopped, that the others have a
// quorum without it.
func stillServe(ctx context.Context, t *together.Transaction) error {
	return t.Each(ctx, func(ctx context.Context, p *together.Peer) error {
		if _, err := together.Query[bool](ctx, p, askRemoveServes, nil); err != nil {
			return fmt.Errorf("the members that stay do not serve without the one that goes: %w", err)
		}
		return nil
	})
}

// Remove removes a member from its cluster, for good.
func Remove(o RemoveOptions) together.Planner { return together.Plans(removesReal().planAll, o) }

func (l removeLooker) planAll(
	ctx context.Context, n *together.Node, o RemoveOptions,
) (*together.Transaction, engine.TogetherPlan, error) {
	var plan engine.TogetherPlan
	if err := o.Check(); err != nil {
		return nil, plan, err
	}
	t, err := n.Convene(ctx, "remove", together.NodesAt(o.Nodes, o.SSHCommand, o.RemoteCommand))
	if err != nil {
		return t, plan, orGone(err)
	}
	surveys, err := together.QueryAll[RemoveSurvey](ctx, t, askRemoveSurvey, t.Run)
	if err != nil {
		return t, plan, err
	}
	removal, notes, err := l.settle(ctx, n.Look, o, t, surveys)
	if err != nil {
		return t, plan, err
	}
	plan.Notes, plan.Findings = finding.Texts(notes), notes
	plan.Nodes, err = together.PlanAll(ctx, t, askRemovePlan, remover{o, removal})
	plan.Stakes.AwayOn(plan.Nodes)
	plan.Stakes.InTurn = len(plan.Stakes.AwayNodes) > 1
	plan.Stakes.Lost = []string{fmt.Sprintf("member %s (%s) leaves the cluster for good: its node can come back only "+
		"as a new member", removal.Gone.ID, removal.Name)}
	return t, plan, err
}

// orGone adds to the hint about a node that cannot be reached what is right if it is the very one
// that is to go, and lost: nobody can start it.
func orGone(err error) error {
	var unreached *together.UnreachedError
	if !errors.As(err, &unreached) {
		return err
	}
	return engine.WithHint(err, fmt.Sprintf("if %s is the machine whose member goes, and it is lost, leave it out of "+
		"--nodes; otherwise %s", unreached.At.Name, unreached.Hint()))
}

// settle asks the members, finds the one that is meant, and refuses what must not be.
func (l removeLooker) settle(
	ctx context.Context, n *observe.Node, o RemoveOptions, t *together.Transaction, surveys []RemoveSurvey,
) (Removal, []finding.Finding, error) {
	r, cluster, gone, err := l.find(ctx, n, o.Member, t, surveys)
	if err != nil {
		return r, nil, err
	}
	if err := cluster.checkRemoval(gone, o.NoSpare); err != nil {
		return r, nil, err
	}
	r.Live = r.Node != "" && cluster.needs(gone)
	if r.Node == "" && gone.runs() && cluster.needs(gone) {
		return r, nil, engine.Refuse("add its node to --nodes: do not stop it before it has left, without it there is "+
			"no quorum to agree on that", "member %s still runs, on none of the nodes of this run", r.Name)
	}
	return r, r.notes(gone, surveys), r.checkStopped(gone)
}

// find asks the members, and finds the one that is meant.
func (l removeLooker) find(
	ctx context.Context, n *observe.Node, word string, t *together.Transaction, surveys []RemoveSurvey,
) (r Removal, cluster *ClusterFacts, gone MemberFacts, err error) {
	r = Removal{Cluster: t.Cluster}
	here := slices.IndexFunc(t.Peers, func(p *together.Peer) bool { return p.Here })
	through := surveys[here].Through
	urls := slices.Concat(through.Endpoints, through.Others)
	for _, s := range surveys {
		urls = append(urls, s.ClientURLs...)
	}
	if cluster, err = l.cluster(ctx, n, through, urls); err != nil {
		return r, nil, gone, engine.Refuse("run the command on a node whose etcd serves, or name one in --nodes; "+
			"without a quorum see /usr/share/doc/etcdpod/docs/runbooks/quorum-lost.md",
			"no member of the cluster can be queried: %v", err)
	}
	if gone, err = cluster.called(word); err != nil {
		return r, nil, gone, err
	}
	for _, s := range surveys {
		if s.ClusterID != 0 && s.ClusterID != cluster.ID {
			return r, nil, gone, engine.Refuse("leave it out of --nodes",
				"etcd on %s is in cluster %x, the member in %x", s.Node, s.ClusterID, cluster.ID)
		}
		if s.Etcd && (s.MemberID == uint64(gone.ID) ||
			s.MemberID == 0 && observe.ShareURL(s.PeerURLs, gone.PeerURLs)) {
			r.Node = s.Node
		}
	}
	r.Gone, r.Name, r.URLs = gone.Member, observe.MemberName(gone.Member), gone.ClientURLs
	for _, m := range cluster.Members {
		if m.ID != gone.ID && !m.IsLearner && cluster.ails(m) == "" {
			r.Stay = append(r.Stay, m.ClientURLs...)
		}
		if m.ID != gone.ID {
			r.Known = append(r.Known, m.ClientURLs...)
		}
	}
	return r, cluster, gone, nil
}

// called finds the member that a person means.
func (c *ClusterFacts) called(word string) (MemberFacts, error) {
	var fits []MemberFacts
	var all, ids []string
	for _, m := range c.byName() {
		all = append(all, fmt.Sprintf("%s (%s)", observe.MemberName(m.Member), m.ID))
		if isMeant(m.Member, m.ClientURLs, word) {
			fits, ids = append(fits, m), append(ids, fmt.Sprintf("%s at %s", m.ID, strings.Join(m.PeerURLs, ",")))
		}
	}
	switch len(fits) {
	case 0:
		return MemberFacts{}, engine.Refuse("`etcdpod members` lists them", "the cluster has no member %s; it has %s",
			word, strings.Join(all, ", "))
	case 1:
		return fits[0], nil
	}
	return MemberFacts{}, engine.Refuse("give its ID", "%s may be any of %s", word, strings.Join(ids, ", "))
}

// checkStopped refuses to remove a member that runs where this run cannot stop it: its etcd would
// exit, be started again and again, and be a cluster of its own once its data is gone.
func (r Removal) checkStopped(gone MemberFacts) error {
	if r.Live && gone.Error != nil {
		return engine.Refuse("make it reachable, and run the command again: `etcdpod status` on its node says more",
			"member %s does not answer, and the cluster has a quorum only with it: %v", r.Name, gone.Error)
	}
	if !gone.runs() || r.Node != "" {
		return nil
	}
	return engine.Refuse(fmt.Sprintf("add its node to --nodes; or stop it there: move etcd's manifest out "+
		"of /etc/kubernetes/manifests, and run the command again once neither %s nor %s answers",
		strings.Join(gone.ClientURLs, ","), strings.Join(gone.PeerURLs, ",")),
		"member %s still runs, on none of the nodes of this run", r.Name)
}

// runs says whether a member is known to run: it answers, or serves its peers.
func (m MemberFacts) runs() bool { return m.Error == nil || m.ServesPeers }

// notes are what a person should know beforehand. An API server that keeps its lease lives, also
// beside a member that does not answer.
func (r Removal) notes(gone MemberFacts, surveys []RemoveSurvey) (notes []finding.Finding) {
	var here, elsewhere []string
	for _, s := range surveys {
		here = append(here, s.Addresses...)
	}
	for _, s := range surveys {
		for _, address := range s.APIServers {
			if !slices.Contains(here, address) && !slices.Contains(elsewhere, address) {
				elsewhere = append(elsewhere, address)
			}
		}
	}
	if len(elsewhere) > 0 {
		all := strings.Join(elsewhere, ", ")
		notes = append(notes, finding.New(finding.APIServersElsewhere, all, "API servers outside --nodes use this "+
			"etcd: %s. Those that name %s keep doing so; `etcdpod apiserver set` on their nodes changes that", all,
			r.Name))
	}
	if gone.Error != nil && r.Node == "" {
		notes = append(notes, finding.New(finding.MemberUnseen, r.Name, "%s does not answer: if its node is switched "+
			"on again, its etcd finds that it was removed and exits. Run `kubeadm reset` there", r.Name))
	}
	return notes
}
