package members

import (
	"context"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Asked is a cluster whose members have been asked, for who does something with one after the
// other. Members are counted as in [Listing.Members].
type Asked struct {
	Listing
	r *roster
}

// Ask lists the members as [List] does, and keeps how each is reached. It changes nothing.
func Ask(ctx context.Context, n *observe.Node) (*Asked, error) {
	r, err := gather(ctx, n)
	if err != nil {
		return nil, err
	}
	return &Asked{Listing: r.list(ctx), r: r}, ctx.Err()
}

// MemberID is the ID of a member.
func (a *Asked) MemberID(i int) uint64 { return a.r.members[i].ID }

// Status is what a member says about itself; with an error where it does not answer.
func (a *Asked) Status(i int) etcd.Status { return a.r.answers[i].Status }

// Silent says why a member does not answer; nil if it does.
func (a *Asked) Silent(i int) error { return a.r.answers[i].Err }

// Way is how a member is reached at its client URLs, whether or not it answers.
func (a *Asked) Way(i int) (op.Access, error) {
	if a.r.answers[i].Err == nil {
		return a.r.answers[i].way, nil
	}
	return a.r.wayTo(a.r.members[i], i == a.r.own)
}

// Voter is how a voter that answered is reached, if it is not one of those to leave out; false:
// none did.
func (a *Asked) Voter(leaveOut func(i int) bool) (op.Access, bool) {
	for _, i := range a.r.ownFirst() {
		if !leaveOut(i) && !a.r.answers[i].Learner {
			return a.r.answers[i].way, true
		}
	}
	return op.Access{}, false
}

// Again asks one member once more.
func (a *Asked) Again(ctx context.Context, i int) {
	a.r.answers[i] = a.r.ask(ctx, a.r.members[i], i == a.r.own)
}

// NameOf is what to call a member in a sentence.
func (a *Asked) NameOf(i int) string { return a.r.nameOf(i) }

// Pod is this node's etcd, if one of the members is; nil otherwise.
func (a *Asked) Pod() *observe.EtcdPod {
	if a.r.own < 0 {
		return nil
	}
	return a.r.pod
}

// Own is this node's member; -1: none is.
func (a *Asked) Own() int { return a.r.own }

// Committed is the highest index of raft's log that any member knows to be committed.
func (a *Asked) Committed() (most uint64) {
	for _, i := range a.r.ownFirst() {
		most = max(most, a.r.answers[i].RaftIndex)
	}
	return most
}

// Raised are the alarms that any member knows, of members or of those that are gone.
func (a *Asked) Raised() (all []etcd.Alarm) {
	for _, one := range a.r.alarms() {
		all = append(all, etcd.Alarm{MemberID: one.id, Name: one.name})
	}
	return all
}

// MetricsURLs are the further URLs, besides those for clients, at which a member serves its
// metrics, as far as its manifest or its stored pod shows them, and they can be reached from here.
func (a *Asked) MetricsURLs(ctx context.Context, i int) (urls []string) {
	const setting = "listen-metrics-urls"
	if i == a.r.own {
		for _, raw := range observe.SplitList(a.r.pod.Setting("", setting)) {
			urls = append(urls, a.r.node.FromHere(a.r.pod, raw)...)
		}
		return urls
	}
	way, ok := a.r.anyVoter()
	if !ok {
		return nil
	}
	// What cannot be read is not known.
	_ = a.r.with(ctx, way, func(ctx context.Context, c *etcd.Client) error {
		pods, err := observe.StoredPods(ctx, c, "etcd", false)
		for _, pod := range pods {
			if a.r.podOf(pod) != i {
				continue
			}
			for _, raw := range observe.SplitList(pod.Setting(setting)) {
				if !observe.OnlyHere(raw) {
					urls = append(urls, raw)
				}
			}
		}
		return err
	})
	return urls
}

// Behind is by how many entries a member does not catch up with what was committed a moment ago. It
// calls tick between two looks.
func (a *Asked) Behind(ctx context.Context, i int, committed uint64, tick func()) uint64 {
	for try := 1; ; try++ {
		applied := a.Status(i).RaftApplied
		if a.Silent(i) == nil && applied >= committed {
			return 0
		}
		if try == stepTries || a.r.node.Clock.Sleep(ctx, stepPause) != nil {
			return max(1, committed-min(committed, applied))
		}
		tick()
		a.Again(ctx, i)
	}
}
