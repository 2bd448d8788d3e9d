package op

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// How a member follows an address that changed: it is stopped, starts with other flags, and the
// others are told where to reach it.

// EndPod stops the kubelet, and lets the containers of a pod exit by themselves: an etcd that is
// told to exit hands its leadership over first. The kubelet stays stopped, since one that no API
// server answers starts no other pod of that name. Undoing it ends what runs by then: the files
// that it was started from are as before again.
type EndPod struct {
	Pod   Pod           `json:"pod"`
	Grace time.Duration `json:"grace"` // for them to exit by themselves
	Limit time.Duration `json:"limit"`
	// API says that this node's API server answers nobody without it. Earlier versions did not say.
	API bool `json:"api,omitempty"`
	// Again is for when another manifest is in its place: a node that was rebooted since the pod
	// had ended may run it from the old one, and a kubelet that no API server answers keeps it.
	Again bool `json:"again,omitempty"`
}

func (e *EndPod) String() string {
	if e.Again {
		return fmt.Sprintf("see that %s has not started in the meantime", e.Pod.Name)
	}
	return fmt.Sprintf("stop %s, and wait until it has exited", e.Pod.Name)
}

func (e *EndPod) Do(ctx context.Context, t *Target) error {
	return poll(ctx, t, e.Pod.Name+" has not exited", e.Limit, 100*time.Millisecond, func(ctx context.Context) error {
		// Somebody else may have started it meanwhile.
		if err := stopKubelet(ctx, t); err != nil {
			return &finalError{err}
		}
		all, err := t.Host.Runtime.Containers(ctx)
		if err != nil {
			return fmt.Errorf("cannot determine what runs: %w", err)
		}
		live := 0
		for _, c := range all {
			if c.State != stateExited && e.Pod.Owns(c) {
				live++
				err = errors.Join(err, end(ctx, t, c, e.Grace))
			}
		}
		if err == nil && live > 0 {
			err = errors.New("its container still runs")
		}
		return err
	})
}

func (e *EndPod) Undo(ctx context.Context, t *Target) error { return e.Do(ctx, t) }

// Done never says yes: whether anything runs is found by carrying it out again.
func (e *EndPod) Done(context.Context, *Target) (bool, error) { return false, nil }

// SetPeerURLs changes at which URLs the other members reach one. It needs a quorum, forward and
// back: the one that there is then.
type SetPeerURLs struct {
	Ways   []Access      `json:"ways"` // to members; the first that answers is asked
	Member ID            `json:"member"`
	Name   string        `json:"name"` // for messages
	Before []string      `json:"before"`
	After  []string      `json:"after"`
	Limit  time.Duration `json:"limit"`
	// Without says that there was no quorum before the run. Then it goes back without one, too, if
	// there is none any more: the URL is where the member's machine is, and harms nobody.
	Without bool `json:"without,omitempty"`
}

func (s *SetPeerURLs) String() string {
	return fmt.Sprintf("have the members reach %s (%s) at %s, and no longer at %s", s.Name, s.Member,
		strings.Join(s.After, ","), strings.Join(s.Before, ","))
}

func (s *SetPeerURLs) Do(ctx context.Context, t *Target) error {
	return s.set(ctx, t, "the peer URL of "+s.Name+" is not set", s.After, func(now []string) error {
		if !sameURLs(now, s.Before) {
			return fmt.Errorf("the peer URL of %s is not set: someone else has set it to %s since the run was planned",
				s.Name, strings.Join(now, ","))
		}
		return nil
	})
}

// Undo leaves a URL that somebody else has set meanwhile.
func (s *SetPeerURLs) Undo(ctx context.Context, t *Target) error {
	err := s.set(ctx, t, "the peer URL of "+s.Name+" is not set back", s.Before, func(now []string) error {
		if sameURLs(now, s.After) {
			return nil
		}
		t.warn(finding.LeftInPlace, s.Member.String(), "the peer URL of %s stays %s: someone else has set it",
			s.Name, strings.Join(now, ","))
		return errTheirs
	})
	if errors.Is(err, errTheirs) {
		return nil
	}
	if s.Without && err != nil && ctx.Err() == nil {
		t.warn(finding.LeftInPlace, s.Member.String(), "the members may still list %s at %s: there was no quorum "+
			"before the run either, and there is none now (%v)", s.Name, strings.Join(s.After, ","), err)
		return nil
	}
	return err
}

var errTheirs = errors.New("it is someone else's")

// set has the members reach the member at URLs, unless they do, or may says why not. The kubelet
// runs: without this node's own etcd, the others may be no quorum.
func (s *SetPeerURLs) set(
	ctx context.Context, t *Target, what string, urls []string, may func(now []string) error,
) error {
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	return poll(ctx, t, what, s.Limit, 200*time.Millisecond, func(ctx context.Context) error {
		way, now, err := s.now(ctx, t)
		switch {
		case err != nil:
			return err
		case now == nil:
			return &finalError{fmt.Errorf("%s: member %s has left the cluster", what, s.Member)}
		case sameURLs(now, urls):
			return nil
		}
		if err := may(now); err != nil {
			return &finalError{err}
		}
		if err := t.Etcd.SetPeerURLs(ctx, way, s.Member, urls); err != nil {
			return err
		}
		return errors.New("the members do not list it yet") // they are asked once more
	})
}

// now are the member's peer URLs, as the first member that answers lists them for a quorum; nil: it
// lists no such member.
func (s *SetPeerURLs) now(ctx context.Context, t *Target) (way Access, urls []string, err error) {
	var errs []error
	for _, way := range s.Ways {
		members, err := t.Etcd.Members(ctx, way)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if at := slices.IndexFunc(members, func(m Member) bool { return m.ID == s.Member }); at >= 0 {
			return way, members[at].PeerURLs, nil
		}
		return way, nil, nil
	}
	return way, nil, errors.Join(errs...)
}

// Done asks by doing: who cannot ask the members now waits for them.
func (s *SetPeerURLs) Done(context.Context, *Target) (bool, error) { return false, nil }

// sameURLs says whether two lists have the same URLs, in whatever order.
func sameURLs(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// AwaitOthers waits until every other member that is to serve does: only then may this one stop, so
// that never two are away at once.
type AwaitOthers struct {
	Others    []Other       `json:"others"`
	ClusterID ID            `json:"clusterID,omitempty"`
	Limit     time.Duration `json:"limit"`
	// Back is for the way back, on which this one stops once more: then it waits when undone. It
	// stands just before this one starts, so that whatever runs has it.
	Back bool `json:"back,omitempty"`
	// Own is this one's peer URL by then. If nothing answers there, it is away itself, and the
	// others may need it: then it does not wait for them.
	Own *Access `json:"own,omitempty"`
	// Started says that no member may be listed that has never started: somebody has added it since
	// the run was planned. It counts for the quorum, and the cluster's version waits for it.
	Started bool `json:"started,omitempty"`
}

// Other is another member, on the named node if that is one of the run's.
type Other struct {
	Node   string `json:"node,omitempty"`
	Access Access `json:"access"` // at any of its URLs
}

func (a *AwaitOthers) String() string {
	var all []string
	for _, other := range a.Others {
		all = append(all, strings.Join(other.Access.Endpoints, " or "))
	}
	says := fmt.Sprintf("wait until the other members serve at %s, %s at most each", strings.Join(all, "; "), a.Limit)
	if a.Back {
		return "(when undoing: " + says + ")"
	}
	return says
}

func (a *AwaitOthers) Do(ctx context.Context, t *Target) error {
	if a.Back {
		return nil
	}
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	if err := a.await(ctx, t); err != nil || !a.Started {
		return err
	}
	return poll(ctx, t, "stopping this member might end the quorum", a.Limit, time.Second,
		func(ctx context.Context) error { return a.newcomer(ctx, t) })
}

// newcomer finds a member that has never started, in the list that one of the others has.
func (a *AwaitOthers) newcomer(ctx context.Context, t *Target) (err error) {
	for _, other := range a.Others {
		if slices.Contains(t.Lost, other.Node) {
			continue
		}
		for _, u := range other.Access.Endpoints {
			all, failed := t.Etcd.Members(ctx, other.Access.At(u))
			if failed != nil {
				err = errors.Join(err, failed)
				continue
			}
			i := slices.IndexFunc(all, func(m Member) bool { return m.Name == "" })
			if i < 0 {
				return nil
			}
			return fmt.Errorf("somebody has added the member %s (%s), which has never started: start it, or remove it "+
				"with `etcdctl member remove %s`", all[i].ID, strings.Join(all[i].PeerURLs, " "), all[i].ID)
		}
	}
	return err
}

// Undo does not wait for a node that is declared destroyed. The kubelet is stopped by then, and
// this etcd may still run: without it the others may be no quorum.
func (a *AwaitOthers) Undo(ctx context.Context, t *Target) error {
	if !a.Back {
		return nil
	}
	return a.await(ctx, t)
}

func (a *AwaitOthers) await(ctx context.Context, t *Target) error {
	for _, other := range a.Others {
		if slices.Contains(t.Lost, other.Node) {
			continue
		}
		what := fmt.Sprintf("the member at %s does not serve, and no two may be away at once",
			strings.Join(other.Access.Endpoints, " or "))
		err := poll(ctx, t, what, a.Limit, 200*time.Millisecond, func(ctx context.Context) error {
			if a.Own != nil && t.Etcd.PeerServes(ctx, *a.Own) != nil {
				return nil
			}
			return a.serves(ctx, t, other.Access)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// serves asks at each URL by itself: the member is at one of them.
func (a *AwaitOthers) serves(ctx context.Context, t *Target, at Access) (err error) {
	for _, u := range at.Endpoints {
		got, failed := t.Etcd.Serving(ctx, at.At(u), 0)
		switch {
		case failed != nil:
			err = errors.Join(err, failed)
		case a.ClusterID != 0 && got.ClusterID != uint64(a.ClusterID):
			return &finalError{fmt.Errorf("etcd of another cluster, %x, serves at %s", got.ClusterID, u)}
		default:
			return nil
		}
	}
	return err
}

// Done asks by doing: what served then may not do so now.
func (a *AwaitOthers) Done(context.Context, *Target) (bool, error) { return false, nil }
