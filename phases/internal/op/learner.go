package op

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// How this node joins an existing cluster: first as a learner, which receives all data and has no
// vote, then with a vote.

// Enrolment identifies the member that a run adds. The peer URL is this node's, and no two members
// share one. But the URL does not prove that the member is the run's own: after a crash someone may
// have removed it and added the node another way. So the id that etcd assigns is written down as
// soon as it is known. Until then, the run's own can only be a learner that has never started and
// was not there before.
type Enrolment struct {
	Access   Access   `json:"access"` // of members that vote
	PeerURLs []string `json:"peerURLs"`
	// A file in the run's folder that holds the id.
	Receipt string `json:"receipt"`
	// A learner from before the run, which the run continues with.
	Was   ID            `json:"was,omitempty"`
	Limit time.Duration `json:"limit"`

	Before []ID `json:"before,omitempty"` // the members before the run
}

// own returns the member that the run added; nil when there is none (any more).
func (e Enrolment) own(ctx context.Context, t *Target) (*Member, error) {
	members, err := t.Etcd.Members(ctx, e.Access)
	if err != nil {
		return nil, err
	}
	at := memberAt(members, e.PeerURLs)
	if at == nil {
		return nil, nil
	}
	mine, err := e.mine(t, *at)
	if err != nil || mine {
		return at, err
	}
	return nil, &finalError{
		fmt.Errorf("member %s at %s is not the one that this run added: someone else added it",
			at.ID, e.PeerURLs[0]),
	}
}

func (e Enrolment) mine(t *Target, at Member) (bool, error) {
	id, err := e.known(t)
	if id != 0 || err != nil {
		return at.ID == id, err
	}
	return at.IsLearner && at.Name == "" && !slices.Contains(e.Before, at.ID), nil
}

// known is the id of the member that the run added; 0 when there is none yet.
func (e Enrolment) known(t *Target) (id ID, err error) {
	err = readJSON(t, e.Receipt, &id)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return id, err
}

// memberAt returns the member at one of the peer URLs; nil if none.
func memberAt(members []Member, urls []string) *Member {
	for _, m := range members {
		if slices.ContainsFunc(urls, func(url string) bool { return slices.Contains(m.PeerURLs, url) }) {
			return &m
		}
	}
	return nil
}

// leave removes the run's own member from the cluster. It may vote by then: the process may
// have died between the promotion and the record of it, or someone else may have promoted it.
// That is harmless: its id is known, the others hold all of its data, its etcd still runs, and
// etcd refuses if the others would be no quorum. A member that someone else added, or that was
// there before, stays. But a learner from before that the run promoted is removed, since its
// etcd is about to stop.
func (e Enrolment) leave(ctx context.Context, t *Target) error {
	return poll(ctx, t, "cannot remove this node's member from the cluster",
		e.Limit, 200*time.Millisecond, func(ctx context.Context) error {
			members, err := t.Etcd.Members(ctx, e.Access)
			if err != nil {
				return err
			}
			at := memberAt(members, e.PeerURLs)
			if at == nil {
				return nil
			}
			mine, err := e.mine(t, *at)
			switch {
			case err != nil:
				return &finalError{err}
			case e.Was != 0:
				mine = at.ID == e.Was && !at.IsLearner
			case !mine:
				t.warn(finding.LearnerLeft, at.ID.String(), "member %s at %s stays in the cluster: this run "+
					"did not add it", at.ID, e.PeerURLs[0])
			}
			if !mine {
				return nil
			}
			return t.Etcd.RemoveMember(ctx, e.Access, at.ID)
		})
}

// AddLearner adds this node to the cluster as a member without a vote. It never adds it twice.
type AddLearner struct {
	Enrolment
	// A member left at these URLs by an earlier attempt, whose data this node does not have:
	// it is removed first.
	Stale ID `json:"stale,omitempty"`
	// The members that etcd's manifest was planned with; nil: they are not checked.
	Others []Member `json:"others,omitempty"`
	// Earlier are nodes that were to join before this one, by name and peer URLs: a learner of one
	// that is lost makes room, since etcd admits no second learner.
	Earlier []Member `json:"earlier,omitempty"`
}

func (a *AddLearner) String() string {
	if a.Stale != 0 {
		return fmt.Sprintf("remove member %s, which never got going, and add the learner %s to the cluster",
			a.Stale, a.PeerURLs[0])
	}
	return "add the learner " + a.PeerURLs[0] + " to the cluster"
}

// Record notes the existing members, so that new ones can be recognized.
func (a *AddLearner) Record(ctx context.Context, t *Target) error {
	return poll(ctx, t, "cannot add the learner", a.Limit, 200*time.Millisecond, func(ctx context.Context) error {
		members, err := t.Etcd.Members(ctx, a.Access)
		if err != nil {
			return err
		}
		at := memberAt(members, a.PeerURLs)
		switch {
		case at == nil:
		case at.ID != a.Stale:
			return &finalError{
				fmt.Errorf("cannot add the learner %s: a member with that peer URL, %s, has appeared since the run "+
					"was planned", a.PeerURLs[0], at.ID),
			}
		case !at.IsLearner:
			return &finalError{fmt.Errorf("cannot remove the learner %s: it already votes", at.ID)}
		}
		a.Before = nil
		for _, m := range members {
			a.Before = append(a.Before, m.ID)
		}
		return nil
	})
}

// Do retries for a while: etcd refuses a learner while the previous one is not promoted, and until
// the members have been connected for five seconds.
func (a *AddLearner) Do(ctx context.Context, t *Target) error {
	if err := poll(ctx, t, "cannot add the learner", a.Limit, 200*time.Millisecond, func(ctx context.Context) error {
		return a.add(ctx, t)
	}); err != nil {
		return err
	}
	return a.check(ctx, t)
}

func (a *AddLearner) add(ctx context.Context, t *Target) error {
	if a.Stale != 0 {
		if err := t.Etcd.RemoveMember(ctx, a.Access, a.Stale); err != nil {
			return err
		}
	}
	at, err := a.own(ctx, t)
	if err == nil && at == nil {
		err = a.clear(ctx, t)
	}
	if err != nil {
		return err
	}
	switch {
	case at != nil: // by an earlier attempt
		return writeJSON(t, a.Receipt, at.ID)
	case exists(t, a.Receipt):
		return &finalError{fmt.Errorf("someone has removed the learner %s", a.PeerURLs[0])}
	}
	id, err := t.Etcd.AddLearner(ctx, a.Access, a.PeerURLs)
	if err != nil {
		return err
	}
	return writeJSON(t, a.Receipt, id)
}

// clear removes the learners of nodes that a person has declared destroyed.
func (a *AddLearner) clear(ctx context.Context, t *Target) error {
	if len(t.Lost) == 0 || len(a.Earlier) == 0 {
		return nil
	}
	members, err := t.Etcd.Members(ctx, a.Access)
	if err != nil {
		return err
	}
	for _, e := range a.Earlier {
		at := memberAt(members, e.PeerURLs)
		if !slices.Contains(t.Lost, e.Name) || at == nil || !at.IsLearner {
			continue
		}
		if err := t.Etcd.RemoveMember(ctx, a.Access, at.ID); err != nil {
			return err
		}
		t.report("the learner %s of the destroyed %s was removed from the cluster", at.ID, e.Name)
	}
	return nil
}

// check compares the members with those in the manifest: an etcd with the wrong
// list does not start.
func (a *AddLearner) check(ctx context.Context, t *Target) error {
	if a.Others == nil {
		return nil
	}
	members, err := t.Etcd.Members(ctx, a.Access)
	if err != nil {
		return err
	}
	own := memberAt(members, a.PeerURLs)
	members = slices.DeleteFunc(members, func(m Member) bool { return own != nil && m.ID == own.ID })
	if !slices.EqualFunc(byID(members), byID(a.Others), func(m, o Member) bool {
		return m.ID == o.ID && slices.Equal(m.PeerURLs, o.PeerURLs)
	}) {
		return errors.New("the members of the cluster have changed since the run was planned: start again")
	}
	return nil
}

func byID(members []Member) []Member {
	return slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
}

// Undo does not bring the stale member back: nothing was left of it.
func (a *AddLearner) Undo(ctx context.Context, t *Target) error   { return a.leave(ctx, t) }
func (a *AddLearner) Done(context.Context, *Target) (bool, error) { return false, nil }

// PromoteLearner waits until this node's member has the leader's data, then gives it its vote.
type PromoteLearner struct {
	Enrolment
	Watched
}

func (p *PromoteLearner) String() string {
	return fmt.Sprintf("promote %s once it has caught up with the leader, %s at most", p.PeerURLs[0], p.Limit)
}

func (p *PromoteLearner) Do(ctx context.Context, t *Target) error {
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	crashes, _ := p.watch(ctx, t, "etcd") // only to say more if it fails
	err := poll(ctx, t, "the learner is not promoted", p.Limit, 200*time.Millisecond, func(ctx context.Context) error {
		members, err := t.Etcd.Members(ctx, p.Access)
		if err != nil {
			return err
		}
		at := memberAt(members, p.PeerURLs)
		if at == nil {
			return &finalError{fmt.Errorf("the learner is not promoted: no member has peer URL %s any more",
				p.PeerURLs[0])}
		}
		id, err := p.known(t)
		switch {
		case err != nil:
			return &finalError{err}
		case id != 0 && at.ID != id:
			return &finalError{
				fmt.Errorf("the learner is not promoted: member %s at %s is not the one that this run added",
					at.ID, p.PeerURLs[0]),
			}
		case !at.IsLearner:
			return nil
		}
		return t.Etcd.PromoteLearner(ctx, p.Access, at.ID)
	})
	return crashes.explain(ctx, t, err)
}

// Undo takes no vote away: etcd cannot. If the run started the member's etcd, the member leaves the
// cluster before its etcd stops, with or without a vote (see WriteManifest). A learner whose etcd
// ran before the run stays, and the report mentions its vote.
func (p *PromoteLearner) Undo(ctx context.Context, t *Target) error {
	if p.Was == 0 {
		return nil
	}
	members, err := t.Etcd.Members(ctx, p.Access)
	if err != nil {
		return nil // nothing depends on it
	}
	if at := memberAt(members, p.PeerURLs); at != nil && at.ID == p.Was && !at.IsLearner {
		t.warn(finding.LeftInPlace, at.ID.String(), "member %s already votes, and etcd cannot take a vote "+
			"away: if its etcd ran before, it continues as a member", at.ID)
	}
	return nil
}

func (p *PromoteLearner) Done(context.Context, *Target) (bool, error) { return false, nil }

// Joining is how the manifest of a joining member gets to name the members that there are.
type Joining struct {
	Access  Access        `json:"access"`  // of members that vote
	Planned string        `json:"planned"` // the value of --initial-cluster in the manifest
	Limit   time.Duration `json:"limit"`
}

// settle puts the members into the manifest. Which they are is asked again by each attempt: the
// journal has what was planned.
func (j *Joining) settle(ctx context.Context, t *Target, put *File) error {
	if j == nil || !bytes.Contains(put.Data, []byte(j.Planned)) {
		return nil
	}
	planned := map[string]string{} // names, by URL
	for pair := range strings.SplitSeq(j.Planned, ",") {
		name, url, _ := strings.Cut(pair, "=")
		planned[url] = name
	}
	var pairs []string
	const unknown = "cannot list the members"
	err := poll(ctx, t, unknown, j.Limit, 200*time.Millisecond, func(ctx context.Context) error {
		members, err := t.Etcd.Members(ctx, j.Access)
		pairs = nil
		for _, m := range members {
			for _, url := range m.PeerURLs {
				pairs = append(pairs, cmp.Or(m.Name, planned[url], m.ID.String())+"="+url)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if now := strings.Join(pairs, ","); !sameList(now, j.Planned) {
		t.report("--initial-cluster becomes %s: these are the members now", now)
		put.Data = bytes.Replace(put.Data, []byte(j.Planned), []byte(now), 1)
	}
	return nil
}

// sameList says whether two lists with commas name the same, in whatever order.
func sameList(a, b string) bool {
	return slices.Equal(slices.Sorted(strings.SplitSeq(a, ",")), slices.Sorted(strings.SplitSeq(b, ",")))
}
