package upgrade

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/together"
)

// Options are what a person may ask of `upgrade plan`.
type Options struct {
	To    string // empty: the newest of the minor that runs, and of the next
	Nodes []journal.Peer
	Down  bool // it is a downgrade
	// How the nodes are reached.
	SSHCommand, RemoteCommand string
}

// Ahead looks at all members, and at the nodes that are named, or else at this one alone, and says
// how an upgrade would end. It changes nothing.
func Ahead(ctx context.Context, n *together.Node, o Options) (Report, error) {
	l, err := lookAt(ctx, n, o)
	if err != nil {
		return Report{}, err
	}
	return l.report(o.To), ctx.Err()
}

// looked is all that was seen.
type looked struct {
	cluster
	down   bool // it is about a downgrade
	seen   []Seen
	unseen []unseenNode
}

// unseenNode is one that could not be asked.
type unseenNode struct{ name, why, hint string }

// cluster is what the members say.
type cluster struct {
	id        uint64 // 0: not known
	members   []listed
	quorum    bool
	through   string
	alarms    []etcd.Alarm
	downgrade string // the version of one that has not ended
}

// listed is one member as the cluster lists it, and as it answers.
type listed struct {
	id               uint64
	name, role, node string
	started, answers bool
	why              string // it does not answer
	version, storage string
	behind           uint64   // entries that it does not catch up with
	clients          []string // the URLs at which it can be asked from other nodes
}

// called is what to call it in a sentence.
func (m listed) called() string {
	if m.name == "" {
		return etcd.FormatID(m.id)
	}
	return m.name
}

func lookAt(ctx context.Context, n *together.Node, o Options) (*looked, error) {
	l := &looked{}
	if err := l.ask(ctx, n.Look); err != nil {
		return nil, err
	}
	question := Question{Versions: l.versions(o.To)}
	if len(o.Nodes) == 0 {
		seen, err := Look(ctx, n.Look, question)
		l.seen = []Seen{seen}
		return l, err
	}
	answers := make([]Seen, len(o.Nodes))
	t, errs, err := n.LookAt(ctx, together.NodesAt(o.Nodes, o.SSHCommand, o.RemoteCommand),
		func(p *together.Peer, i int) error { return p.Ask(ctx, askLook, question, &answers[i], nil) })
	if err != nil {
		return nil, err
	}
	t.Leave()
	for i, err := range errs {
		if err != nil {
			l.unseen = append(l.unseen, unseenNode{o.Nodes[i].Name, err.Error(), engine.Hint(err)})
			continue
		}
		answers[i].Node = o.Nodes[i].Name
		l.seen = append(l.seen, answers[i])
	}
	return l, ctx.Err()
}

// ask asks the members.
func (l *looked) ask(ctx context.Context, n *observe.Node) error {
	asked, err := members.Ask(ctx, n)
	if err != nil {
		return err
	}
	l.quorum, l.through, l.alarms = asked.Quorum, asked.Through, asked.Raised()
	l.id, _ = strconv.ParseUint(asked.ClusterID, 16, 64)
	committed := asked.Committed()
	for i, e := range asked.Members {
		m := listed{id: asked.MemberID(i), name: e.Name, role: e.Role, node: e.Node, started: e.Started,
			answers: e.Answers, why: e.Error, version: e.Version, storage: e.StorageVersion,
			clients: slices.DeleteFunc(slices.Clone(e.ClientURLs), observe.OnlyHere)}
		if m.answers {
			m.behind = asked.Behind(ctx, i, committed, func() {})
		}
		if asked.Silent(i) != nil {
			m.behind = 0
		}
		if d := asked.Status(i).Downgrade; d != "" {
			l.downgrade = d
		}
		l.members = append(l.members, m)
	}
	return ctx.Err()
}

// inTurns has the members stand in the order of their turns. Those of the older minor come after
// all others: the version of the cluster rises with the last of them, and nobody goes back then.
// Among the same the leader is the last: each time it goes there is an election.
func inTurns(members []listed) {
	newer := func(m listed) int {
		v, _ := parse(m.version)
		return v.minor
	}
	slices.SortStableFunc(members, func(a, b listed) int {
		return cmp.Or(cmp.Compare(newer(b), newer(a)), lead(a)-lead(b))
	})
}

func lead(m listed) int {
	if m.role == "leader" {
		return 1
	}
	return 0
}

// runs is the lowest and the highest version of the members that answer; false: none tells.
func (l *looked) runs() (low, high version, ok bool) {
	for _, m := range l.members {
		v, is := parse(m.version)
		if !is {
			continue
		}
		if !ok || v.before(low) {
			low = v
		}
		if !ok || high.before(v) {
			high = v
		}
		ok = true
	}
	return low, high, ok
}

// versions are those that are judged: what a person gave, or the newest of the minor that runs, and
// of the next, as far as they are newer than what runs somewhere.
func (l *looked) versions(to string) (all []string) {
	if to != "" {
		return []string{to}
	}
	low, _, ok := l.runs()
	if !ok {
		return nil
	}
	for _, minor := range []int{low.minor, low.minor + 1} {
		if newest, known := newestOf(minor); known && low.before(newest) {
			all = append(all, newest.String())
		}
	}
	return all
}

// report judges each version.
func (l *looked) report(to string) Report {
	r := Report{Plans: []Plan{}}
	for _, text := range l.versions(to) {
		v, _ := parse(text)
		r.Plans = append(r.Plans, l.plan(v))
	}
	if _, _, ok := l.runs(); !ok {
		r.Next = "find out with `etcdpod status` why no member tells its version"
		return r
	}
	for _, p := range slices.Backward(r.Plans) { // the first that ends well, from the newest
		if p.Verdict == Well {
			r.Next = p.Next
			return r
		}
	}
	if len(r.Plans) == 0 {
		r.Next = "give a version with --to: nothing newer than what runs is known to this etcdpod"
		return r
	}
	r.Next = r.Plans[0].Next
	return r
}

// Good says whether one of the plans would end well, or nothing is left to do.
func (r Report) Good() bool {
	return slices.ContainsFunc(r.Plans, func(p Plan) bool { return p.Verdict == Well || p.Verdict == Nothing })
}

// plan judges one version.
func (l *looked) plan(to version) Plan {
	inTurns(l.members)
	j := judging{looked: l, to: to}
	j.low, j.high, j.known = l.runs()
	p := Plan{To: to.String(), Members: j.table()}
	if j.runsEverywhere() {
		p.Verdict, p.Next, p.Findings = Nothing, certs.NothingToDo, j.left()
		p.Sentence = fmt.Sprintf("There is nothing to do: all members run etcd %s.", to)
		if len(p.Findings) > 0 {
			p.Next = p.Findings[0].Next
		}
		return p
	}
	p.Findings = j.judge(p.Members)
	p.conclude()
	if p.Verdict == Well {
		p.Next = j.typed()
	}
	return p
}

// left is what a member's upgrade by hand may have left: kubeadm does not know of it.
func (j *judging) left() []Finding {
	j.found = []Finding{}
	if j.down {
		return j.found
	}
	j.judgeKubernetes()
	return slices.DeleteFunc(j.found, func(f Finding) bool { return f.Code != finding.KubeadmSetting })
}

// typed is the command that carries it out.
func (j *judging) typed() string {
	command := "etcdpod upgrade --to " + j.to.String()
	if j.down {
		command = "etcdpod downgrade --to " + j.to.String()
	}
	if len(j.members) > 1 {
		command += " --nodes " + strings.Join(j.allNodes(), ",")
	}
	return "`" + command + "`"
}

// conclude says what the findings come to.
func (p *Plan) conclude() {
	told := p.Told()
	first := func(w Weight) (worst *Told, others int) {
		for i, t := range told {
			if t.Weight != w {
				continue
			}
			if worst == nil {
				worst = &told[i]
			} else {
				others++
			}
		}
		return worst, others
	}
	because := func(t *Told, others int) string {
		more := ""
		if others > 0 {
			more = fmt.Sprintf(", and for %s", reasons(others))
		}
		return t.Where() + t.Text + more + "."
	}
	if worst, others := first(Blocks); worst != nil {
		p.Verdict, p.Next = NotWell, worst.Next
		p.Sentence = "This will not end well, because " + because(worst, others)
		return
	}
	if worst, others := first(Doubts); worst != nil {
		p.Verdict, p.Next = Unknown, worst.Next
		p.Sentence = "Nobody can tell yet whether this will end well, because " + because(worst, others)
		return
	}
	p.Verdict, p.Sentence = Well, "This will end well."
	if n := p.rewritten(); n > 0 {
		p.Sentence = "This will end well, with the flags written as below."
	}
}

func reasons(n int) string {
	if n == 1 {
		return "one more reason"
	}
	return fmt.Sprintf("%d more reasons", n)
}

// rewritten is how many flags must be written otherwise for etcd to start.
func (p *Plan) rewritten() (n int) {
	for _, m := range p.Members {
		for _, f := range m.Flags {
			if f.Stops && f.Becomes != "" {
				n++
			}
		}
	}
	return n
}
