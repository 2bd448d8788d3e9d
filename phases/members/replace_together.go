package members

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// replaceLooker is how a replacement observes nodes and their cluster. Tests replace it.
type replaceLooker struct {
	removeLooker
	newcomer func(context.Context, *observe.Node, newcomerQuestion) (*Facts, error)
}

func replacesReal() replaceLooker {
	return replaceLooker{removesReal(), func(ctx context.Context, n *observe.Node, q newcomerQuestion) (*Facts, error) {
		own := *n
		own.Access.Endpoints = q.Endpoints
		f, err := q.Options.joiner().observer("")(ctx, &own, q.Run)
		if err == nil && f.Join.Source != "" {
			f.Join.Source = "the members that stay"
		}
		return f, err
	}}
}

// ReplaceJoint is what the transaction needs to know about a replacement.
func ReplaceJoint() together.Joint { return replacesReal().joint() }

func (l replaceLooker) joint() together.Joint {
	return together.Joint{
		Name:   "replace",
		Phases: together.JointPhases(replacer{}.workflow().Phases),
		Before: map[string]func(context.Context, *together.Transaction) error{
			"see-newcomer": newcomerAnswers,
		},
		After: map[string]func(context.Context, *together.Transaction) error{
			"wire-apiservers": mayCommit,
		},
		Advice:     adviceOnReplacement,
		LeftBehind: leftOut,
		Answers:    l.answers,
	}
}

// mayCommit checks, before the commit point, that the new machine is there, and that the others
// have a quorum without the old member. Without the new machine nothing is removed: the run goes
// back.
func mayCommit(ctx context.Context, t *together.Transaction) error {
	return cmp.Or(newcomerIsThere(ctx, t), stillServe(ctx, t))
}

func newcomerIsThere(_ context.Context, t *together.Transaction) error {
	with := newcomerOf(t)
	if slices.ContainsFunc(t.Peers, func(p *together.Peer) bool { return p.Name == with }) {
		return nil
	}
	return fmt.Errorf("%s, which was to be the new member, is lost", with)
}

// newcomerOf is the new machine's name: the last of the run's nodes.
func newcomerOf(t *together.Transaction) string { return t.Cluster.Nodes[len(t.Cluster.Nodes)-1].Name }

const (
	theMachine  = "the new machine "
	isNotThere  = " does not answer"
	notAddedYet = "it was not added yet"
)

// newcomerAnswers fails where the others would wait for a member in vain: nobody goes on on the new
// machine.
func newcomerAnswers(_ context.Context, t *together.Transaction) error {
	if with := newcomerOf(t); t.Mute(with) {
		return fmt.Errorf("%s%s%s", theMachine, with, isNotThere)
	}
	return nil
}

// adviceOnReplacement is for a run that is open past its commit point.
func adviceOnReplacement(cause error) string {
	text := cause.Error()
	says := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
	}
	switch {
	case says("someone has removed the learner"):
		return "if the run was ended without the new machine, wipe that: `kubeadm reset`, and move its run's folder " +
			"away; else run `etcdpod resume --lost NODE` with the new machine's name on a node that stays"
	case says(theMachine, notAddedYet):
		name := "NODE"
		if _, after, found := strings.Cut(text, theMachine); found {
			name, _, _ = strings.Cut(after, isNotThere)
		}
		return fmt.Sprintf("start the new machine, or see that this node reaches it over ssh, and run the command "+
			"again; if it cannot be brought up, run `etcdpod resume --lost %s`: that ends the run without it", name)
	case says("the learner does not catch up", "the learner is not promoted", "cannot add the learner",
		"etcd does not serve"):
		return "correct that on the new machine; if that cannot be done, stop it, and run `etcdpod resume --lost " +
			"NODE` with its name on a node that stays: that ends the run without it"
	}
	return adviceOnRemoval(cause)
}

// leftOut says what to do on a node without which the others have ended the run.
func leftOut(node, run string) string {
	return fmt.Sprintf("on %s, run `kubeadm reset`, move %s away, and join it to the cluster", node,
		journal.RunDir(run))
}

const (
	askReplaceSurvey   = "replace-survey"
	askReplaceNewcomer = "replace-newcomer"
	askReplacePlan     = "replace-plan"
)

// newcomerQuestion asks the newcomer how its member will be.
type newcomerQuestion struct {
	Run       string
	Options   replacer // what is known of it by then
	Endpoints []string // of the members that stay
}

// replacePart is one node's part in a replacement.
type replacePart struct {
	removePart
	look  replaceLooker
	joins *Facts
}

func (l replaceLooker) answers(p *together.Participant) map[string]together.Reply {
	r := &replacePart{removePart: removePart{Participant: p, look: l.removeLooker}, look: l}
	return map[string]together.Reply{
		askReplaceSurvey: together.Given(func(ctx context.Context, run string) (any, error) {
			return r.survey(ctx, run)
		}),
		askReplaceNewcomer: together.Given(func(ctx context.Context, q newcomerQuestion) (any, error) {
			return r.newcomer(ctx, q)
		}),
		askReplacePlan: together.Given(func(ctx context.Context, o replacer) (any, error) {
			return r.planned(ctx, o)
		}),
		askRemoveServes: together.Given(func(ctx context.Context, _ any) (any, error) { return r.serves(ctx) }),
	}
}

func (p *replacePart) newcomer(ctx context.Context, q newcomerQuestion) (c Newcomer, err error) {
	if err := engine.RefuseOpen(p.Node.Host.FS); err != nil {
		return c, err
	}
	if p.joins, err = p.look.newcomer(ctx, p.Node.Look, q); err != nil {
		return c, err
	}
	if err := checkStacked(p.joins); err != nil {
		return c, err
	}
	p.Id = q.Run
	pod := p.joins.Init.Pod
	return Newcomer{Node: q.Options.With.Name, Name: pod.Name, PeerURLs: pod.PeerURLs, ClientURLs: pod.ClientURLs}, nil
}

func (p *replacePart) planned(ctx context.Context, o replacer) (engine.Plan, error) {
	var f *ReplaceFacts
	switch {
	case p.joins != nil:
		f = &ReplaceFacts{Facts: p.joins.Facts, Joins: p.joins}
	case p.facts != nil:
		f = &ReplaceFacts{Facts: p.facts.Facts, Stays: p.facts}
	default:
		return engine.Plan{}, together.ErrNoSurvey
	}
	plan, err := o.workflow().Planned(ctx, f)
	return p.Joined(plan, &o.Cluster), err
}

// Replace puts another machine in the place of a member: of one that is dead, or of one that is to
// go.
func Replace(o ReplaceOptions) together.Planner { return together.Plans(replacesReal().planAll, o) }

// planAll plans the replacement of a failed member, or else of one that serves.
func (l replaceLooker) planAll(
	ctx context.Context, n *together.Node, o ReplaceOptions,
) (*together.Transaction, engine.TogetherPlan, error) {
	t, plan, err := l.planAs(ctx, n, o, "replace")
	if errors.Is(err, errServes) {
		t.Leave()
		return l.planAs(ctx, n, o, "handover")
	}
	return t, plan, err
}

func (l replaceLooker) planAs(
	ctx context.Context, n *together.Node, o ReplaceOptions, workflow string,
) (*together.Transaction, engine.TogetherPlan, error) {
	var plan engine.TogetherPlan
	if err := o.Check(); err != nil {
		return nil, plan, err
	}
	own, err := n.OwnName()
	switch {
	case err != nil:
		return nil, plan, err
	case own == o.With.Name:
		return nil, plan, &engine.UsageError{Reason: fmt.Sprintf("%s is the new machine, in --with", own),
			Hint: "run the command on a node that stays"}
	case len(o.Nodes) == 0:
		o.Nodes = []journal.Peer{{Name: own, Host: own}}
	}
	t, to, notes, err := l.convene(ctx, n, o, workflow)
	if err != nil {
		return t, plan, err
	}
	plan.Notes, plan.Findings = finding.Texts(notes), notes
	plan.Nodes, err = together.PlanAll(ctx, t, askReplacePlan, to)
	plan.Stakes.AwayOn(plan.Nodes)
	plan.Stakes.InTurn = len(plan.Stakes.AwayNodes) > 1
	plan.Stakes.Lost = []string{fmt.Sprintf("member %s (%s) leaves the cluster for good: if the new one does not "+
		"come in, the cluster stays one member short until another one joins", to.Gone.ID, to.Name)}
	if to.Alive {
		plan.Stakes.Lost = []string{fmt.Sprintf("member %s (%s) leaves the cluster for good, once the new one votes: "+
			"its node can come back only as a new member", to.Gone.ID, to.Name)}
	}
	return t, plan, err
}

// errServes says that the old member serves: that is another workflow.
var errServes = errors.New("the member serves")

// convene prepares a run of a workflow on all nodes.
func (l replaceLooker) convene(
	ctx context.Context, n *together.Node, o ReplaceOptions, workflow string,
) (t *together.Transaction, to replacer, notes []finding.Finding, err error) {
	t, err = n.Convene(ctx, workflow,
		together.NodesAt(append(slices.Clone(o.Nodes), o.With), o.SSHCommand, o.RemoteCommand))
	if err == nil {
		to, notes, err = l.decide(ctx, n.Look, o, t, workflow == "handover")
	}
	return t, to, notes, err
}

// decide asks all nodes, finds the member that is meant, and refuses what must not be.
func (l replaceLooker) decide(
	ctx context.Context, n *observe.Node, o ReplaceOptions, t *together.Transaction, alive bool,
) (to replacer, notes []finding.Finding, err error) {
	surveys := make([]RemoveSurvey, len(t.Peers)) // the newcomer's stays empty
	if err := t.Each(ctx, func(ctx context.Context, p *together.Peer) (err error) {
		if p.Name != o.With.Name {
			surveys[slices.Index(t.Peers, p)], err = together.Query[RemoveSurvey](ctx, p, askReplaceSurvey, t.Run)
		}
		return err
	}); err != nil {
		return to, nil, err
	}
	removal, cluster, gone, err := l.find(ctx, n, o.Member, t, surveys)
	if err != nil {
		return to, nil, err
	}
	to = replacer{ReplaceOptions: o, Removal: removal, Alive: alive}
	switch {
	case gone.Error == nil && !alive:
		return to, nil, errServes
	case gone.Error != nil && alive:
		return to, nil, fmt.Errorf("%s has stopped answering meanwhile: %w", to.Name, gone.Error)
	}
	// Of a member that serves, the new one is the spare.
	if err := cmp.Or(to.checkOld(), cluster.checkRemoval(gone, alive), to.checkReachable()); err != nil {
		return to, nil, err
	}
	for _, m := range cluster.Members {
		to.Before = append(to.Before, m.ID)
	}
	at := slices.IndexFunc(t.Peers, func(p *together.Peer) bool { return p.Name == o.With.Name })
	to.Newcomer, err = together.Query[Newcomer](ctx, t.Peers[at], askReplaceNewcomer,
		newcomerQuestion{Run: t.Run, Options: to, Endpoints: to.Stay})
	notes = slices.DeleteFunc(removal.notes(gone, surveys), func(f finding.Finding) bool {
		return f.Code == finding.MemberUnseen && observe.ShareURL(to.Newcomer.PeerURLs, gone.PeerURLs)
	})
	return to, notes, err
}

// checkOld refuses a member that serves on none of the run's nodes, where nobody would stop it, and
// one that has failed and is set up on a node that stays.
func (o replacer) checkOld() error {
	switch {
	case o.Alive && o.Node == "" && o.Name == o.With.Name:
		return engine.Refuse("if that machine gets a new disk, power it off, install it again, and run the command "+
			"again; otherwise give another machine as --with, and this one in --nodes",
			"%s still serves, on the machine in --with", o.Name)
	case o.Alive && o.Node == "":
		return engine.Refuse(fmt.Sprintf("add the node of %s to --nodes; or, if it is to go at once, stop its etcd "+
			"there, and run the command again", o.Name), "%s serves, on none of the nodes of this run", o.Name)
	case !o.Alive && o.Node != "":
		return engine.Refuse(fmt.Sprintf("if that machine stays as it is, run `etcdpod remove %s`, and then `etcdpod "+
			"join` on %s; if it is the new machine itself, take it out of --nodes", o.Name, o.With.Name),
			"etcd of %s is on %s, in --nodes, although it does not answer", o.Name, o.Node)
	}
	return nil
}

// checkReachable refuses members that nobody can ask from another machine.
func (o replacer) checkReachable() error {
	if len(o.Stay) > 0 {
		return nil
	}
	return engine.Refuse("set --advertise-client-urls on the members that stay",
		"none of the members that stay advertises a client URL at which the new machine could reach it")
}
