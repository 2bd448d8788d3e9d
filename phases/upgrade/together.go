package upgrade

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// TogetherOptions are what a person may ask of `upgrade`.
type TogetherOptions struct {
	Options
	Image       string        // for all members; empty: as each manifest names its own
	WaitTimeout time.Duration // for each etcd to serve; 0: two minutes
	PullTimeout time.Duration // for each node to have the image; 0: ten minutes
}

// Check refuses options that make no sense.
func (o TogetherOptions) Check() error {
	if o.To == "" {
		return &engine.UsageError{Reason: "no version is given",
			Hint: "give it as --to 3.6.16; `etcdpod upgrade plan` says which ones would end well"}
	}
	if o.Image == "" {
		return nil
	}
	to, _ := parse(o.To)
	tag := tagOf(o.Image)
	if tag == "" {
		return &engine.UsageError{Reason: fmt.Sprintf("--image %s has no tag", o.Image),
			Hint: "give it as --image registry.example.org/etcd:3.6.16-0"}
	}
	if v, ok := parse(observe.TagVersion(tag)); ok && v != to {
		return &engine.UsageError{Reason: fmt.Sprintf("--image %s is etcd %s, and not %s", o.Image, v, to)}
	}
	return nil
}

// tagOf is the tag of an image; empty: it has none.
func tagOf(image string) string {
	name, _, _ := strings.Cut(image, "@")
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		return name[i+1:]
	}
	return ""
}

// repositoryOf is an image without its tag and digest.
func repositoryOf(image string) string {
	name, _, _ := strings.Cut(image, "@")
	return strings.TrimSuffix(name, ":"+tagOf(name))
}

// looker is how the cluster and its nodes are observed. Tests replace it.
type looker struct {
	cluster func(context.Context, *observe.Node) (cluster, error)
	seen    func(ctx context.Context, n *observe.Node, q Question, run string) (*Facts, error)
	backup  func(ctx context.Context, n *observe.Node, run string) (*op.TakeBackup, []finding.Finding, error)
	valid   func(ctx context.Context, n *observe.Node, target string) error // of a downgrade
}

func looksReal() looker {
	return looker{
		cluster: func(ctx context.Context, n *observe.Node) (cluster, error) {
			l := &looked{}
			err := l.ask(ctx, n)
			return l.cluster, err
		},
		seen: func(ctx context.Context, n *observe.Node, q Question, run string) (*Facts, error) {
			s, f, err := look(ctx, n, q)
			if err != nil {
				return nil, err
			}
			f.Run, f.Notes = run, map[string]string{}
			all := &Facts{Facts: f, Seen: s}
			if f.Live != nil && observe.HasAPIServer(f) {
				all.Ready = op.Serves(n.API.Ready(ctx, f.API))
			}
			return all, nil
		},
		backup: backup.Within,
		valid:  validates,
	}
}

// Joint is what the transaction needs to know about `upgrade`.
func Joint() together.Joint { return looksReal().joint() }

func (l looker) joint() together.Joint {
	return together.Joint{
		Name:       "upgrade",
		Phases:     together.JointPhases(Part{}.carrying().Phases),
		BackInTurn: true,
		LeftBehind: leftOut,
		Answers:    l.answers,
	}
}

// leftOut says what to do about a node without which the others have ended the run.
func leftOut(node, _ string) string {
	return fmt.Sprintf("`etcdpod members` shows which etcd the member on %[1]s runs, if any; if the node does not "+
		"come back, run `etcdpod remove %[1]s`: the version of the cluster rises only once all members answer", node)
}

const (
	askSurvey = "upgrade-survey"
	askPart   = "upgrade-part"
)

// surveyQuestion asks a node what it is like, for a run.
type surveyQuestion struct {
	Run string
	Question
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
		askSurvey: together.Given(func(ctx context.Context, q surveyQuestion) (any, error) {
			return r.survey(ctx, q)
		}),
		askPart: together.Given(func(ctx context.Context, q partQuestion) (any, error) {
			return r.planned(ctx, q)
		}),
	}
}

func (p *part) survey(ctx context.Context, q surveyQuestion) (s Seen, err error) {
	if err := engine.RefuseOpen(p.Node.Host.FS); err != nil {
		return s, err
	}
	if p.facts, err = p.look.seen(ctx, p.Node.Look, q.Question, q.Run); err != nil {
		return s, err
	}
	p.Id = q.Run
	return p.facts.Seen, nil
}

// partQuestion is what a node is told.
type partQuestion struct {
	Part    Part
	Cluster journal.Cluster
}

func (p *part) planned(ctx context.Context, q partQuestion) (plan engine.Plan, err error) {
	if p.facts == nil {
		return plan, together.ErrNoSurvey
	}
	p.facts.Part = q.Part
	for i := range p.facts.Part.Others { // with this node's certificates
		at := &p.facts.Part.Others[i].Access
		*at = p.facts.Etcd.Access.At(at.Endpoints...)
	}
	if err := p.facts.render(); err != nil {
		return plan, err
	}
	if q.Part.Backup {
		if p.facts.Backup, p.facts.Doubts, err = p.look.backup(ctx, p.Node.Look, p.facts.Run); err != nil {
			return plan, err
		}
	}
	plan, err = p.facts.Part.carrying().Planned(ctx, p.facts)
	return p.Joined(plan, &q.Cluster), err
}

// Together upgrades etcd on all nodes.
func Together(o TogetherOptions) together.Planner { return together.Plans(looksReal().planAll, o) }

// Replaces says whether a plan replaces an etcd: otherwise kubeadm's line is all that is to change.
func Replaces(plan engine.TogetherPlan) bool {
	return slices.ContainsFunc(plan.Nodes, func(n engine.NodePlan) bool {
		return slices.ContainsFunc(n.Phases, func(p engine.PlannedPhase) bool {
			return strings.HasPrefix(p.Name, "replace-") && len(p.Operations) > 0
		})
	})
}

func (l looker) planAll(
	ctx context.Context, n *together.Node, o TogetherOptions,
) (t *together.Transaction, plan engine.TogetherPlan, err error) {
	if err := o.Check(); err != nil {
		return nil, plan, err
	}
	workflow := map[bool]string{false: "upgrade", true: "downgrade"}[o.Down]
	if t, err = n.Convene(ctx, workflow, together.NodesAt(o.Nodes, o.SSHCommand, o.RemoteCommand)); err != nil {
		return t, plan, err
	}
	all := &looked{down: o.Down}
	if all.cluster, err = l.cluster(ctx, n.Look); err != nil {
		return t, plan, err
	}
	q := surveyQuestion{t.Run, Question{Versions: []string{o.To}, Image: o.Image}}
	if all.seen, err = together.QueryAll[Seen](ctx, t, askSurvey, q); err != nil {
		return t, plan, err
	}
	for i, p := range t.Peers {
		all.seen[i].Node = p.Name
	}
	to, _ := parse(o.To)
	judged := all.plan(to)
	if err := refused(judged, t.Cluster.Nodes, o.Down); err != nil {
		return t, plan, err
	}
	adopted := (&judging{looked: all, to: to}).goesTo()
	if err := l.validated(ctx, n.Look, o, judged, adopted); err != nil {
		return t, plan, err
	}
	parts, err := all.parts(judged, o, t.Cluster.Coordinator)
	if err != nil {
		return t, plan, err
	}
	inOrder(t, parts)
	plan.Nodes, err = together.PlanEach(ctx, t, askPart, func(p *together.Peer) any {
		return partQuestion{parts[slices.Index(t.Peers, p)].Part, t.Cluster}
	})
	plan.Findings = slices.Concat(judged.worthKnowing(), all.moves(to))
	plan.Notes = finding.Texts(plan.Findings)
	plan.Stakes = stakesOfAll(plan.Nodes, parts)
	return t, plan, err
}

// refused is the verdict of `upgrade plan`, unless it says that all ends well.
func refused(p Plan, nodes []journal.Peer, down bool) error {
	if down {
		return refusedDown(p)
	}
	if p.Verdict == Well || p.Verdict == Nothing {
		return nil
	}
	var names []string
	for _, n := range nodes {
		names = append(names, n.Typed())
	}
	return engine.Refuse(fmt.Sprintf("%s; `etcdpod upgrade plan --to %s --nodes %s` shows all that was found", p.Next,
		p.To, strings.Join(names, ",")), "%s", strings.TrimSuffix(p.Sentence, "."))
}

// named is one node's part.
type named struct {
	node string
	Part
}

// parts says what each node has to do, in the order of their turns. The one named first takes the
// backup.
func (l *looked) parts(judged Plan, o TogetherOptions, coordinator string) (all []named, err error) {
	to, _ := parse(o.To)
	low, _, _ := l.runs()
	turns := 0
	for i, m := range judged.Members {
		if m.Node == "" {
			continue // the verdict is good: it runs that version, on a node that nobody has named
		}
		p := Part{To: o.To, Down: o.Down, Rises: to.minor > low.minor && !o.Down, Cluster: l.id,
			WaitTimeout: o.WaitTimeout, PullTimeout: o.PullTimeout}
		if v, ok := parse(m.Version); judged.Verdict != Nothing && ok && v != to {
			turns++
			p.Image, p.From, p.Turn = m.Image, v.line(), turns
		}
		if p.Others, err = l.others(l.members[i].id); err != nil {
			return nil, err
		}
		all = append(all, named{m.Node, p})
	}
	for _, s := range l.seen { // one without a member has nothing to do
		if !slices.ContainsFunc(all, func(n named) bool { return n.node == s.Node }) {
			all = append(all, named{s.Node, Part{To: o.To, Down: o.Down}})
		}
	}
	tells, tag := l.tag(to, judged, coordinator)
	for i := range all {
		p := &all[i]
		p.Of, p.Last = turns, p.Rises && turns > 0 && p.Turn == turns
		p.Backup = turns > 0 && p.node == coordinator
		if p.node == tells {
			p.Tag = tag
		}
	}
	if o.Down {
		enabling(all, (&judging{looked: l, to: to}).goesTo())
	}
	return all, nil
}

// others are the members without one of them, each with the node that it is on.
func (l *looked) others(id uint64) (all []op.Other, err error) {
	for _, m := range l.members {
		if m.id == id {
			continue
		}
		if len(m.clients) == 0 {
			return nil, engine.Refuse("set --advertise-client-urls of that etcd to an address that other nodes reach",
				"%s advertises no client URL at which other nodes reach it, so they could not see whether it serves",
				m.called())
		}
		other := op.Other{Access: op.Access{Endpoints: m.clients}}
		if s := (&judging{looked: l}).seenOf(m); s != nil {
			other.Node = s.Node
		}
		all = append(all, other)
	}
	return all, nil
}

// moves warns of an image from another repository: kubeadm would look for its tag in its own.
func (l *looked) moves(to version) []finding.Finding {
	for _, s := range l.seen {
		image, _ := imageIn(&s, to)
		if from := repositoryOf(image); s.Etcd && s.Kubernetes != "" && image != "" && from != repositoryOf(s.Image) {
			return []finding.Finding{finding.New(finding.KubeadmSetting, "etcd.local.imageRepository",
				"the image is from another repository, %s: kubeadm's ClusterConfiguration is left as it is, and a "+
					"node that joins gets the etcd it names. To change that, run `kubectl -n kube-system edit "+
					"configmap kubeadm-config`, and set etcd.local.imageRepository to %q and etcd.local.imageTag to %q",
				from, path.Dir(from), tagOf(image))}
		}
	}
	return nil
}

// tag is the tag that kubeadm's ClusterConfiguration is to have, and the node that sets it: one
// with an API server, the coordinator if it has one. Empty: it is so already, there is none, or it
// would be that of another repository.
func (l *looked) tag(to version, judged Plan, coordinator string) (node, tag string) {
	j := &judging{looked: l, to: to}
	oldest := 0
	var told *string
	for _, s := range l.seen {
		minor := observe.KubernetesMinor(s.Kubernetes)
		if s.Kubernetes == "" {
			continue
		}
		if node == "" || s.Node == coordinator {
			node = s.Node
			name, _ := imageIn(&s, to)
			tag = tagOf(name)
		}
		if oldest == 0 || minor < oldest {
			oldest = minor
		}
		if s.ImageTag != nil {
			told = s.ImageTag
		}
	}
	own, known := j.kubeadmsEtcd(oldest)
	switch {
	case len(l.moves(to)) > 0,
		told == nil && judged.Verdict == Nothing, // nobody has asked for that alone
		told != nil && *told == tag,
		told != nil && *told == "" && known && own == to && tag == revisionOf(own):
		return "", ""
	}
	return node, tag
}

// inOrder has the nodes stand in the order of their turns: the way back is the other way round.
func inOrder(t *together.Transaction, parts []named) {
	at := func(node string) int { return slices.IndexFunc(parts, func(n named) bool { return n.node == node }) }
	t.Cluster.Nodes = slices.Clone(t.Cluster.Nodes)
	slices.SortStableFunc(t.Cluster.Nodes, func(a, b journal.Peer) int { return at(a.Name) - at(b.Name) })
	slices.SortStableFunc(t.Peers, func(a, b *together.Peer) int { return at(a.Name) - at(b.Name) })
}

// worthKnowing is what was found that does not stand in the way, without what the run does itself.
func (p Plan) worthKnowing() (all []finding.Finding) {
	itself := []finding.Code{finding.EtcdImageMissing, finding.EtcdFlagRenamed, finding.EtcdFlagDefault,
		finding.KubeadmSetting}
	for _, t := range p.Told() {
		if t.Weight != Notes || slices.Contains(itself, t.Code) {
			continue
		}
		f := t.Finding.Finding
		f.Text = t.Where() + t.Text
		all = append(all, f)
	}
	return all
}

// stakesOfAll: no data is given up. Each API server is away while its own etcd is, one at a time.
func stakesOfAll(plans []engine.NodePlan, parts []named) (all engine.Stakes) {
	all.AwayOn(plans)
	all.InTurn = len(all.AwayNodes) > 1
	if !slices.ContainsFunc(parts, func(p named) bool { return p.Image != "" }) {
		return all
	}
	back := "until the run has ended, `etcdpod rollback`; the old manifests are kept on each node until `etcdpod " +
		"prune`"
	if slices.ContainsFunc(parts, func(p named) bool { return p.Last }) {
		back = "until the last member's turn, `etcdpod rollback`; with that one the version of the cluster rises, " +
			"and the way back is `etcdpod downgrade`, or a restore of the backup that this run takes"
	}
	if slices.ContainsFunc(parts, func(p named) bool { return p.Enables }) {
		back = "until the data of all members are of the older minor, `etcdpod rollback`; from the first member on " +
			"that is replaced, `etcdpod upgrade` afterwards, or a restore of the backup that this run takes"
	}
	all.Back = []string{back}
	return all
}
