package members

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Move is the result of `members move-leader`. The JSON names are stable.
type Move struct {
	From  MemberRef `json:"from"`  // the member that led
	To    MemberRef `json:"to"`    // the member that is to lead
	Moved bool      `json:"moved"` // false: it led already, or nothing was to be changed
	// Until all members that answer saw it lead.
	Seconds float64 `json:"seconds,omitempty"`
	// What a person should know before saying yes.
	Notes []string `json:"notes"`

	r        *roster
	from, to int
}

// MemberRef names one member.
type MemberRef struct {
	ID   string `json:"id"`   // hex
	Name string `json:"name"` // empty: it has never started
}

func (r *roster) ref(i int) MemberRef {
	return MemberRef{ID: etcd.FormatID(r.members[i].ID), Name: r.members[i].Name}
}

// nameOf is what to call a member in a sentence; namesakes are told apart.
func (r *roster) nameOf(i int) string { return observe.MemberNames(bind.MembersOf(r.members))[i] }

// PlanMove looks for the member that is to lead: the one that is meant by a word (its id, name or
// one of its URLs), or the voter that is most in step. It changes nothing, and refuses what would
// not go well.
func PlanMove(ctx context.Context, n *observe.Node, word string) (*Move, error) {
	r, err := gatherToChange(ctx, n, "move the leader")
	if err != nil {
		return nil, err
	}
	return r.planMove(ctx, word)
}

func (r *roster) planMove(ctx context.Context, word string) (m *Move, err error) {
	m = &Move{r: r, from: r.leader(), Notes: []string{}}
	if m.from < 0 {
		return nil, engine.Refuse("wait for the election, and look with `etcdpod members`",
			"cannot move the leader: no member that answers knows one")
	}
	m.From = r.ref(m.from)
	if m.to, err = m.target(word); err != nil {
		return nil, err
	}
	if m.To = r.ref(m.to); m.Already() {
		return m, nil
	}
	for _, check := range []func(context.Context) error{
		m.checkLeader, m.checkAlarms, m.checkTarget, m.checkInStep,
	} {
		if err := check(ctx); err != nil {
			return nil, err
		}
	}
	for i, one := range r.members {
		if !one.IsLearner && r.answers[i].Err != nil {
			m.Notes = append(m.Notes, fmt.Sprintf("%s does not answer: %v", r.nameOf(i), r.answers[i].Err))
		}
	}
	return m, nil
}

// gatherToChange is [gather] for who wants to change the cluster: no run may be open here, and a
// quorum must answer.
func gatherToChange(ctx context.Context, n *observe.Node, what string) (*roster, error) {
	if err := cmp.Or(engine.RefuseOpen(n.FS), n.CheckControlPlane(ctx)); err != nil {
		return nil, err
	}
	r, err := gather(ctx, n)
	if err != nil {
		return nil, err
	}
	if !r.quorum {
		return nil, engine.Refuse("`etcdpod members` shows which members do not answer: start them first",
			"cannot %s: no quorum answers", what)
	}
	return r, nil
}

// Already says whether the member leads that is to.
func (m *Move) Already() bool { return m.from == m.to }

// isMeant says whether a person means a member by a word: its id, its name, or one of its URLs.
func isMeant(m op.Member, clientURLs []string, word string) bool {
	return observe.Called(m, word) || slices.Contains(clientURLs, strings.TrimSuffix(word, "/"))
}

// meant is the member that a person means by a word.
func (r *roster) meant(word string) (int, error) {
	var fit []int
	var called []string
	for i, one := range bind.MembersOf(r.members) {
		if isMeant(one, r.members[i].ClientURLs, word) {
			fit, called = append(fit, i), append(called, etcd.FormatID(r.members[i].ID))
		}
	}
	switch len(fit) {
	case 0:
		return -1, engine.Refuse("give the ID, the name or a URL of one that `etcdpod members` lists",
			"there is no member %s", word)
	case 1:
		return fit[0], nil
	}
	return -1, engine.Refuse("give its ID: "+strings.Join(called, " or "), "%d members fit %s", len(fit), word)
}

// target is the member that is to lead.
func (m *Move) target(word string) (int, error) {
	r := m.r
	if word != "" {
		return r.meant(word)
	}
	best := -1
	for i, one := range r.members { // by name
		if i == m.from || one.IsLearner || r.answers[i].Err != nil {
			continue
		}
		if best < 0 || r.behind(i) < r.behind(best) {
			best = i
		}
	}
	if best < 0 {
		return -1, engine.Refuse("`etcdpod members` shows them", "cannot move the leader: besides %s, which leads, no "+
			"voter answers", r.nameOf(m.from))
	}
	return best, nil
}

func (m *Move) checkLeader(context.Context) error {
	if err := m.r.answers[m.from].Err; err != nil {
		return engine.Refuse("run it on a node from which the leader can be reached", "cannot move the leader: %s "+
			"leads, and does not answer here: %v", m.r.nameOf(m.from), err)
	}
	return nil
}

func (m *Move) checkAlarms(context.Context) error {
	var raised []string
	for _, a := range m.r.alarms() {
		raised = append(raised, a.name+" of member "+etcd.FormatID(a.id))
	}
	if len(raised) == 0 {
		return nil
	}
	return engine.Refuse("run `etcdpod status`: it says what to do about them", "cannot move the leader: etcd raised "+
		"alarms: %s", strings.Join(raised, ", "))
}

func (m *Move) checkTarget(context.Context) error {
	name, err := m.r.nameOf(m.to), m.r.answers[m.to].Err
	switch one := m.r.members[m.to]; {
	case one.Name == "":
		return engine.Refuse("choose a voter that `etcdpod members` lists", "cannot move the leader to %s", name)
	case one.IsLearner:
		return engine.Refuse("choose a voter that `etcdpod members` lists",
			"cannot move the leader to %s: it is a learner", name)
	case err != nil:
		return engine.Refuse("choose a voter that answers, as `etcdpod members` shows",
			"cannot move the leader to %s: it does not answer: %v", name, err)
	}
	return nil
}

// How often a member is looked at that has not yet applied what was committed: clients write all
// the time.
const (
	stepTries = 10
	stepPause = 500 * time.Millisecond
)

// checkInStep refuses a member that does not catch up with what the leader had committed when it
// was asked.
func (m *Move) checkInStep(ctx context.Context) error {
	r := m.r
	wants := r.answers[m.from].RaftIndex
	for try := 1; r.answers[m.to].RaftApplied < wants; try++ {
		if try == stepTries {
			return engine.Refuse("wait until it has caught up: `etcdpod members` shows how far it is",
				"cannot move the leader to %s: it is %d entries behind", r.nameOf(m.to),
				wants-r.answers[m.to].RaftApplied)
		}
		if err := r.node.Clock.Sleep(ctx, stepPause); err != nil {
			return err
		}
		if a := r.ask(ctx, r.members[m.to], m.to == r.own); a.Err == nil {
			r.answers[m.to] = a
		}
	}
	return nil
}

// Stakes are what a yes means.
func (m *Move) Stakes() engine.Stakes {
	from := m.r.nameOf(m.from)
	return engine.Stakes{
		Lost: []string{fmt.Sprintf("nothing that was acknowledged; for about 0.1 s, writes through %s may fail, and "+
			"API servers report that to their clients", from)},
		Back: []string{fmt.Sprintf("run `etcdpod members move-leader %s`", cmp.Or(m.From.Name, m.From.ID))},
	}
}

// How long all members may take to see the new leader: an election takes one or two seconds.
const (
	leadTries = 60
	leadPause = 500 * time.Millisecond
)

// Carry moves the leader, and waits until all members that answer see it.
func (m *Move) Carry(ctx context.Context, n *engine.Node) (err error) {
	unlock, err := n.LockIdle(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	r, to := m.r, m.r.members[m.to].ID
	began := n.Host.Clock.Now()
	failed := n.Etcd.MoveLeader(ctx, r.answers[m.from].way, op.ID(to))
	if failed != nil && ctx.Err() != nil {
		return failed
	}
	var others []string
	for try := range leadTries {
		if others = m.others(ctx, to); len(others) == 0 {
			m.Moved, m.Seconds = true, n.Host.Clock.Now().Sub(began).Seconds()
			return nil
		}
		if failed != nil && try > 3 {
			break
		}
		if err := n.Host.Clock.Sleep(ctx, leadPause); err != nil {
			return err
		}
	}
	const hint = "look with `etcdpod members`, and run it again"
	if failed != nil {
		return engine.WithHint(fmt.Errorf("%w; %s", failed, strings.Join(others, ", ")), hint)
	}
	return engine.WithHint(fmt.Errorf("the old leader has handed over, but not all members see it: %s",
		strings.Join(others, ", ")), hint)
}

// others says who of those that answered sees another leader now, or none.
func (m *Move) others(ctx context.Context, to uint64) (said []string) {
	r := m.r
	now := make([]answer, len(r.members))
	engine.Concurrently(len(now), func(i int) {
		if now[i].Err = r.answers[i].Err; now[i].Err == nil {
			now[i] = r.ask(ctx, r.members[i], i == r.own)
		}
	})
	for i, a := range now {
		leader := slices.IndexFunc(r.members, func(one etcd.Member) bool { return one.ID == a.Leader })
		switch {
		case r.answers[i].Err != nil || a.Err == nil && a.Leader == to:
		case a.Err != nil:
			said = append(said, fmt.Sprintf("%s does not answer: %v", r.nameOf(i), a.Err))
		case leader < 0:
			said = append(said, r.nameOf(i)+" sees no leader")
		default:
			said = append(said, fmt.Sprintf("%s sees that %s leads", r.nameOf(i), r.nameOf(leader)))
		}
	}
	return said
}
