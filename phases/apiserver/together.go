package apiserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// TogetherOptions are the options of `apiserver set` on several nodes.
type TogetherOptions struct {
	Set   Options
	Nodes []journal.Peer

	SSHCommand    string // starts a command on a host: its words, the host, the command's words
	RemoteCommand string // etcdpod on the other nodes
}

// Check refuses options that make no sense.
func (o TogetherOptions) Check() error { return o.Set.checkWish() }

// inTurn is Set on one of several nodes: each API server is ready before the next one is touched.
// The commit point comes once all are.
func inTurn(o Options) workflow {
	w := Set(o)
	w.Phases = []phase{o.preflight(), o.setAndAwait()}
	return w
}

const setPhase = "set"

func (o Options) setAndAwait() phase {
	set, await := o.set(), o.awaitAPIServer()
	return phase{Name: setPhase, InTurn: true, Commit: true,
		Short: "change the API server's manifest and wait until it is ready, one node at a time; if one does not " +
			"become ready, the old manifests come back on all",
		Plan: func(ctx context.Context, f *Facts) ([]op.Op, error) {
			ops, err := set.Plan(ctx, f)
			if err != nil {
				return nil, err
			}
			wait, err := await.Plan(ctx, f)
			return append(ops, wait...), err
		}}
}

// looker is how the nodes and their cluster are observed. Tests replace it.
type looker struct {
	seen    func(context.Context, *observe.Node, string) (*Facts, error)
	members func(context.Context, *observe.Node, *Facts) ([]etcd.Member, error)
	tried   func(context.Context, *observe.Node, *Facts, EtcdFlags, wanted)
}

func setsReal() looker {
	return looker{members: membersNow, tried: tried,
		seen: func(ctx context.Context, n *observe.Node, run string) (*Facts, error) {
			f, err := seen(ctx, n, run)
			if err == nil && f.APIServer.File.Path != "" {
				f.APIServer.Cluster, f.APIServer.Known = clusterInUse(ctx, n, f)
			}
			return f, err
		}}
}

// Joint is what the transaction needs to know about `apiserver set` on several nodes.
func Joint() together.Joint { return setsReal().joint() }

func (l looker) joint() together.Joint {
	return together.Joint{
		Name:       "apiserver",
		Phases:     together.JointPhases(inTurn(Options{}).Phases),
		After:      map[string]func(context.Context, *together.Transaction) error{setPhase: allReady},
		BackInTurn: true,
		Answers:    l.answers,
	}
}

const (
	askSurvey  = "apiserver-survey"
	askMembers = "apiserver-members"
	askPlan    = "apiserver-plan"
	askReady   = "apiserver-ready"
)

// survey is what the coordinator needs to know of a node.
type survey struct {
	Cluster uint64 // that its API server uses; 0: unknown
	Known   string // what says so
}

// planQuestion is what all nodes are told.
type planQuestion struct {
	Set     Options
	Wanted  wanted
	Cluster journal.Cluster
}

// part is one node's part.
type part struct {
	*together.Participant
	look  looker
	facts *Facts
}

func (l looker) answers(p *together.Participant) map[string]together.Reply {
	r := &part{Participant: p, look: l}
	return map[string]together.Reply{
		askSurvey:  together.Given(func(ctx context.Context, run string) (any, error) { return r.survey(ctx, run) }),
		askMembers: together.Given(func(ctx context.Context, _ any) (any, error) { return r.members(ctx) }),
		askPlan:    together.Given(func(ctx context.Context, q planQuestion) (any, error) { return r.plan(ctx, q) }),
		askReady: together.Given(func(ctx context.Context, _ any) (any, error) {
			return together.Done(r.ready(ctx))
		}),
	}
}

func (p *part) survey(ctx context.Context, run string) (s survey, err error) {
	if err := engine.RefuseOpen(p.Node.Host.FS); err != nil {
		return s, err
	}
	if p.facts, err = p.look.seen(ctx, p.Node.Look, run); err != nil {
		return s, err
	}
	p.Id = run
	a := p.facts.APIServer
	err = checkAPIServer(p.facts)
	if err != nil && a.File.Path == "" {
		err = engine.WithHint(err, strings.TrimSuffix("leave it out of --nodes; or "+engine.Hint(err), "; or "))
	}
	return survey{a.Cluster, a.Known}, err
}

// members are the servers that all nodes are to use, as this node's cluster lists them.
func (p *part) members(ctx context.Context) (w wanted, err error) {
	if p.facts == nil {
		return w, together.ErrNoSurvey
	}
	a := p.facts.APIServer
	members, err := p.look.members(ctx, p.Node.Look, p.facts)
	if a.MembersError = err; err == nil {
		w = a.takeMembers(members)
	}
	a.After = EtcdFlags{Servers: w.Servers}
	return w, Options{AllMembers: true}.checkMembers(p.facts)
}

func (p *part) plan(ctx context.Context, q planQuestion) (engine.Plan, error) {
	if p.facts == nil {
		return engine.Plan{}, together.ErrNoSurvey
	}
	p.look.tried(ctx, p.Node.Look, p.facts, q.Set.Wish, q.Wanted)
	plan, err := inTurn(q.Set).Planned(ctx, p.facts)
	return p.Joined(plan, &q.Cluster), err
}

// stillReady is for an API server that was ready when its node's turn ended.
const stillReady = time.Minute

// ready waits again for what this node has waited for: other nodes have had their turn since.
func (p *part) ready(ctx context.Context) error {
	for _, o := range p.Run.Ops {
		if w, ok := o.(*op.AwaitReplaced); ok && !w.Back {
			again := *w
			again.Limit = min(w.Limit, stillReady)
			return again.Do(ctx, p.Run.Target)
		}
	}
	return nil
}

// allReady checks, before the commit point, that every API server is ready at once.
func allReady(ctx context.Context, t *together.Transaction) error {
	return t.Each(ctx, func(ctx context.Context, p *together.Peer) error {
		return p.Ask(ctx, askReady, nil, nil, nil)
	})
}

// SetTogether changes which etcds the API servers of several nodes use.
func SetTogether(o TogetherOptions) together.Planner { return together.Plans(planAll, o) }

func planAll(
	ctx context.Context, n *together.Node, o TogetherOptions,
) (*together.Transaction, engine.TogetherPlan, error) {
	var plan engine.TogetherPlan
	if err := o.Check(); err != nil {
		return nil, plan, err
	}
	t, err := n.Convene(ctx, "apiserver", together.NodesAt(o.Nodes, o.SSHCommand, o.RemoteCommand))
	if err != nil {
		return t, plan, err
	}
	surveys, err := together.QueryAll[survey](ctx, t, askSurvey, t.Run)
	if err != nil {
		return t, plan, err
	}
	if err := checkOneCluster(t.Peers, surveys); err != nil {
		return t, plan, err
	}
	q := planQuestion{Set: o.Set, Wanted: wanted{Servers: o.Set.Wish.Servers}, Cluster: t.Cluster}
	if o.Set.AllMembers {
		here := t.Peers[slices.IndexFunc(t.Peers, func(p *together.Peer) bool { return p.Here })]
		if q.Wanted, err = together.Query[wanted](ctx, here, askMembers, nil); err != nil {
			return t, plan, err
		}
	}
	plan.Nodes, err = together.PlanAll(ctx, t, askPlan, q)
	plan.Stakes = stakesOfAll(plan.Nodes, t.Cluster.Nodes)
	return t, plan, err
}

// checkOneCluster refuses API servers that use different clusters now: one list is not for both.
func checkOneCluster(peers []*together.Peer, surveys []survey) error {
	first := slices.IndexFunc(surveys, func(s survey) bool { return s.Cluster != 0 })
	for i, s := range surveys {
		if s.Cluster != 0 && s.Cluster != surveys[first].Cluster {
			return engine.Refuse("change the API servers of each cluster by a command of their own",
				"the API server of %s uses cluster %x, according to %s, but that of %s uses %x, according to %s",
				peers[first].Name, surveys[first].Cluster, surveys[first].Known, peers[i].Name, s.Cluster, s.Known)
		}
	}
	return nil
}

// stakesOfAll are those of all nodes: each API server is away once, while the others serve. One
// command leads back if the nodes are alike, as kubeadm makes them; otherwise each has its own.
func stakesOfAll(plans []engine.NodePlan, nodes []journal.Peer) (all engine.Stakes) {
	var backs []string
	var changed []journal.Peer
	for i, n := range plans {
		s := n.Stakes
		if len(s.Back) > 0 {
			changed = append(changed, nodes[i])
		}
		for _, lost := range s.Lost {
			if !slices.Contains(all.Lost, lost) {
				all.Lost = append(all.Lost, lost)
			}
		}
		for _, back := range s.Back {
			if !slices.Contains(backs, back) {
				backs = append(backs, back)
			}
		}
	}
	all.AwayOn(plans)
	all.InTurn = len(all.AwayNodes) > 1
	switch len(backs) {
	case 0:
	case 1:
		all.Back = []string{strings.Replace(backs[0], "apiserver set", "apiserver set --nodes "+namesOf(changed), 1)}
	default:
		for _, n := range plans {
			for _, back := range n.Stakes.Back {
				all.Back = append(all.Back, fmt.Sprintf("on %s: %s", n.Node, back))
			}
		}
	}
	return all
}

// namesOf are nodes as --nodes takes them.
func namesOf(nodes []journal.Peer) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.Typed())
	}
	return strings.Join(all, ",")
}
