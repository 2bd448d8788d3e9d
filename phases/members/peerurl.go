package members

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// PeerChange is the result of `members set-peer-url`. The JSON names are stable.
type PeerChange struct {
	Member  MemberRef `json:"member"`
	Before  []string  `json:"before"`  // its peer URLs
	After   []string  `json:"after"`   // those that it is to have
	Changed bool      `json:"changed"` // false: it had them already, or nothing was to be changed
	// What a person should know.
	Notes []string `json:"notes"`

	r  *roster
	of int
}

// PlanPeerURL looks at whether a member may get other peer URLs: one, or several with commas
// between. It changes nothing, and refuses what would not go well.
func PlanPeerURL(ctx context.Context, n *observe.Node, word, urls string) (*PeerChange, error) {
	after, err := etcd.PeerURLs(strings.Split(urls, ","))
	if err != nil {
		return nil, &engine.UsageError{Reason: fmt.Sprintf("%s is no peer URL: %v", urls, err),
			Hint: "give it as https://10.0.0.11:2380, without a path"}
	}
	if once := slices.Compact(slices.Sorted(slices.Values(lower(after)))); len(once) < len(after) {
		return nil, &engine.UsageError{Reason: fmt.Sprintf("%s names a URL twice", urls), Hint: "give each once"}
	}
	r, err := gatherToChange(ctx, n, "set the peer URL")
	if err != nil {
		return nil, err
	}
	p, err := r.planPeerURL(word, after)
	if err != nil || p.Already() {
		return p, err
	}
	listens, at := p.listens(ctx)
	return p, cmp.Or(p.checkListens(listens, at), p.checkReached(ctx))
}

// planPeerURL checks what the list of members tells.
func (r *roster) planPeerURL(word string, after []string) (*PeerChange, error) {
	i, err := r.meant(word)
	if err != nil {
		return nil, err
	}
	p := &PeerChange{r: r, of: i, Member: r.ref(i), Before: r.members[i].PeerURLs, After: after, Notes: []string{}}
	if p.Already() {
		return p, nil
	}
	return p, cmp.Or(p.checkTaken(), p.checkForPeers(), p.checkReachable(), p.checkLearner())
}

// Already says whether the member has those peer URLs.
func (p *PeerChange) Already() bool {
	return slices.Equal(slices.Sorted(slices.Values(p.Before)), slices.Sorted(slices.Values(p.After)))
}

func (p *PeerChange) name() string { return p.r.nameOf(p.of) }

// checkTaken refuses a URL that another member has.
func (p *PeerChange) checkTaken() error {
	for i, other := range p.r.members {
		if i != p.of && observe.ShareURL(lower(other.PeerURLs), lower(p.After)) {
			return engine.Refuse("`etcdpod members` shows all peer URLs", "cannot set the peer URL of %s: %s has it",
				p.name(), p.r.nameOf(i))
		}
	}
	return nil
}

// checkForPeers refuses a URL for clients, and one without TLS where the member is reached with it.
func (p *PeerChange) checkForPeers() error {
	for i, m := range p.r.members {
		if observe.ShareURL(lower(m.ClientURLs), lower(p.After)) {
			return engine.Refuse("give the URL for peers, whose port is usually 2380", "cannot set the peer URL of "+
				"%s: at %s %s serves clients", p.name(), strings.Join(p.After, ","), p.r.nameOf(i))
		}
	}
	encrypted := func(u string) bool { return strings.HasPrefix(strings.ToLower(u), "https:") }
	if slices.ContainsFunc(p.Before, encrypted) && !slices.ContainsFunc(p.After, encrypted) {
		return engine.Refuse("give it with https", "cannot set the peer URL of %s to %s: the members reach it with TLS",
			p.name(), strings.Join(p.After, ","))
	}
	return nil
}

func lower(urls []string) (all []string) {
	for _, u := range urls {
		all = append(all, strings.ToLower(u))
	}
	return all
}

// checkReachable refuses a URL at which every host reaches itself.
func (p *PeerChange) checkReachable() error {
	i := slices.IndexFunc(p.After, observe.OnlyHere)
	if i < 0 || len(p.r.members) == 1 {
		return nil
	}
	return engine.Refuse("give the member's address", "cannot set the peer URL of %s: at %s every host reaches itself",
		p.name(), p.After[i])
}

// checkLearner refuses a learner on an etcd that would forget that it is one (etcd issue 21694):
// the list then has it as a voter, and raft does not. Every member carries out the change.
func (p *PeerChange) checkLearner() error {
	if !p.r.members[p.of].IsLearner {
		return nil
	}
	const hint = "promote or remove the learner instead, or upgrade etcd to 3.5.31, 3.6.12 or later first"
	for i, m := range p.r.members {
		switch a := p.r.answers[i]; {
		case m.Name == "":
		case a.Err != nil:
			return engine.Refuse("start it first", "cannot set the peer URL of %s, a learner: older versions of etcd "+
				"would forget that it is one, and it is not known which version %s is", p.name(), p.r.nameOf(i))
		case forgetsLearners(a.Version):
			return engine.Refuse(hint, "cannot set the peer URL of %s, a learner: etcd %s, which %s is, would forget "+
				"that it is one", p.name(), a.Version, p.r.nameOf(i))
		}
	}
	return nil
}

// forgetsLearners says whether that version makes a voter of a learner whose peer URLs are set.
func forgetsLearners(version string) bool {
	cured := map[int]int{5: 31, 6: 12} // patches, by minor
	minor := observe.EtcdMinor(version)
	if minor > 6 {
		return false
	}
	parts := strings.SplitN(version, ".", 3)
	if cured[minor] == 0 || len(parts) < 3 {
		return true
	}
	patch, _, early := strings.Cut(parts[2], "-")
	n, err := strconv.Atoi(patch)
	return err != nil || n < cured[minor] || early && n == cured[minor]
}

// listens is where the member listens for its peers, and what says so: this node's manifest, or its
// pod as the API server stored it. None: nothing shows that.
func (p *PeerChange) listens(ctx context.Context) (urls []string, at string) {
	r := p.r
	if p.of == r.own {
		return observe.SplitList(r.pod.Setting("", "listen-peer-urls")), r.pod.File.Path
	}
	way, ok := r.anyVoter()
	if !ok {
		return nil, ""
	}
	var pods []observe.StoredPod
	err := r.with(ctx, way, func(ctx context.Context, c *etcd.Client) (err error) {
		pods, err = observe.StoredPods(ctx, c, "etcd", false)
		return err
	})
	for _, pod := range pods {
		if err == nil && r.podOf(pod) == p.of {
			return observe.SplitList(pod.Setting("listen-peer-urls")), pod.File.Path
		}
	}
	return nil, ""
}

func (p *PeerChange) checkListens(listens []string, at string) error {
	if len(listens) == 0 {
		p.Notes = append(p.Notes, "it is not known from here where "+p.name()+" listens for its peers")
		return nil
	}
	for _, u := range p.After {
		if !observe.Listens(listens, u) {
			return engine.Refuse("let it listen there first, besides where it does: change --listen-peer-urls in its "+
				"manifest, and wait until it has started again", "cannot set the peer URL of %s to %s: it listens at "+
				"%s, says %s", p.name(), u, strings.Join(listens, ", "), at)
		}
	}
	return nil
}

// checkReached refuses a URL at which another etcd answers, and one at which none does while the
// others are no quorum without this member: that could not be undone.
func (p *PeerChange) checkReached(ctx context.Context) error {
	r, id := p.r, p.r.members[p.of].ID
	var silent []string
	for _, u := range p.After {
		members, err := r.peersAt(ctx, u)
		switch {
		case err != nil:
			silent = append(silent, fmt.Sprintf("%s: %v", u, err))
		case !slices.Contains(ids(members), id):
			return engine.Refuse("correct the URL", "cannot set the peer URL of %s to %s: an etcd that does not know "+
				"it answers there", p.name(), u)
		}
	}
	if len(silent) == 0 {
		return nil
	}
	said := "no etcd answers its peers from here at " + strings.Join(silent, "; ")
	voters, left := 0, 0
	for i, m := range r.members {
		if m.IsLearner {
			continue
		}
		voters++
		if i != p.of && r.answers[i].Err == nil {
			left++
		}
	}
	if !r.members[p.of].IsLearner && voters > 1 && left <= voters/2 {
		return engine.Refuse("let it listen there first; or start the other members, so that they are a quorum "+
			"without it", "cannot set the peer URL of %s: %s, and without it the members that answer have no quorum, "+
			"which could not be undone", p.name(), said)
	}
	p.Notes = append(p.Notes, said)
	return nil
}

// peersAt are the members that who answers at a peer URL knows.
func (r *roster) peersAt(ctx context.Context, at string) ([]etcd.Member, error) {
	if r.pod == nil {
		return nil, errors.New("this node has no certificate for peers")
	}
	access, err := r.node.Dialer().Access(r.pod.Peer.At(at))
	if err != nil {
		return nil, err
	}
	return etcd.PeerMembers(ctx, access)
}

// anyVoter is how a voter that answers is reached, this node's first.
func (r *roster) anyVoter() (op.Access, bool) {
	for _, i := range r.ownFirst() {
		if !r.answers[i].Learner {
			return r.answers[i].way, true
		}
	}
	return op.Access{}, false
}

// podOf is the member whose pod that is; -1 when none is.
func (r *roster) podOf(p observe.StoredPod) int {
	urls := observe.SplitList(p.Setting("initial-advertise-peer-urls"))
	if i := observe.OwnAmong(bind.MembersOf(r.members), 0, "", urls); i >= 0 {
		return i
	}
	return onlyNamed(r.members, p.Setting("name"))
}

// Stakes are what a yes means.
func (p *PeerChange) Stakes() engine.Stakes {
	return engine.Stakes{
		Lost: []string{fmt.Sprintf("nothing; but if the others cannot reach %s there, it falls behind", p.name())},
		Back: []string{"run `" + p.Undo() + "`"},
	}
}

// Undo is the command that gives the member the peer URLs that it had.
func (p *PeerChange) Undo() string {
	return fmt.Sprintf("etcdpod members set-peer-url %s %s", p.Member.ID, strings.Join(p.Before, ","))
}

// Manifest says what should follow on the member's node; empty if it does already.
func (p *PeerChange) Manifest() string {
	where := "the manifest of its etcd"
	if p.of == p.r.own {
		if slices.Equal(p.r.pod.PeerURLs, p.After) {
			return ""
		}
		where = p.r.pod.File.Path
	}
	return fmt.Sprintf("set --initial-advertise-peer-urls=%s in %s as well: etcd uses it at its first start alone, "+
		"but etcdpod goes by it, as in a restore", strings.Join(p.After, ","), where)
}

// Carry sets the peer URLs, and sees that the members list them.
func (p *PeerChange) Carry(ctx context.Context, n *engine.Node) (err error) {
	unlock, err := n.LockIdle(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	way, ok := p.r.anyVoter()
	if !ok {
		return errors.New("no voter answers any more")
	}
	id := op.ID(p.r.members[p.of].ID)
	if err := n.Etcd.SetPeerURLs(ctx, way, id, p.After); err != nil {
		return err
	}
	now, err := n.Etcd.Members(ctx, way)
	if err != nil {
		return engine.WithHint(fmt.Errorf("the peer URL was set, but the members cannot be listed: %w", err),
			"to undo it, run `"+p.Undo()+"`")
	}
	i := slices.IndexFunc(now, func(m observe.Member) bool { return m.ID == id })
	if i < 0 || !observe.ShareURL(now[i].PeerURLs, p.After) {
		return engine.WithHint(errors.New("the peer URL was set, and the members do not list it"),
			"somebody else may have changed it: look with `etcdpod members`")
	}
	p.Changed = true
	return nil
}
