package op

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// How a member leaves its cluster for good.

// StopMember takes etcd's manifest out, and lets its pod end by itself: an etcd that is told to
// exit hands its leadership to another member first. Its data stays where it is.
type StopMember struct {
	TakeOutManifest
	Pod   Pod           `json:"pod"`
	Grace time.Duration `json:"grace"` // for etcd to exit by itself
	Limit time.Duration `json:"limit"` // for the kubelet to notice
	// Served is what must serve again if the run goes back.
	Served *Before `json:"served,omitempty"`
	// Left: it comes after the commit point, once the member has left its cluster. Its etcd ends by
	// itself then, and whatever starts it from now on only ends again.
	Left bool `json:"left,omitempty"`
}

func (s *StopMember) String() string {
	if s.Left {
		return fmt.Sprintf("move %s to %s, and wait until etcd, which has left the cluster, has exited",
			s.From, s.To)
	}
	return fmt.Sprintf("move %s to %s, and wait until etcd has exited", s.From, s.To)
}

// Record notes what runs.
func (s *StopMember) Record(ctx context.Context, t *Target) error {
	return errors.Join(s.TakeOutManifest.Record(ctx, t), s.Served.record(ctx, t))
}

func (s *StopMember) Do(ctx context.Context, t *Target) error {
	err := s.TakeOutManifest.Do(ctx, t)
	switch there, look := sumOf(t, s.From); {
	case err == nil:
	case !s.Left:
		return err
	case errors.Is(look, fs.ErrNotExist) && !exists(t, s.taken(t)): // somebody has taken it away
	case look == nil && there != s.SHA256:
		// It is theirs, and nothing that this run still has to do is in danger.
		t.warn(finding.ManifestChanged, s.From, "someone has changed %s since the run was planned, so it stays: its "+
			"etcd has left the cluster, and ends whenever it starts. Move it out of the directory", s.From)
		return nil
	default:
		return err
	}
	return s.ended(ctx, t)
}

// quietFor is how long nothing may have run: a kubelet that has not noticed yet starts a container
// anew that has exited.
const quietFor = 2 * time.Second

// ended waits until nothing runs from the manifest. Where the kubelet does not end the pod, because
// it does not run or waits for an API server, this does.
func (s *StopMember) ended(ctx context.Context, t *Target) error {
	var quiet time.Time
	return poll(ctx, t, "etcd has not exited", s.Limit, 100*time.Millisecond, func(ctx context.Context) error {
		live, err := s.endAll(ctx, t)
		switch {
		case err != nil:
			return err
		case live > 0:
			quiet = time.Time{}
			return errors.New("its container still runs")
		case quiet.IsZero():
			quiet = t.Host.Clock.Now()
		}
		if t.Host.Clock.Now().Sub(quiet) < quietFor {
			return errors.New("it has only just exited, and the kubelet may start it again")
		}
		return nil
	})
}

// endAll ends what runs from the manifest, and returns how much that was.
func (s *StopMember) endAll(ctx context.Context, t *Target) (live int, err error) {
	all, err := t.Host.Runtime.Containers(ctx)
	if err != nil {
		return 0, fmt.Errorf("cannot determine what runs: %w", err)
	}
	for _, c := range all {
		if c.State == stateExited || !s.Pod.Owns(c) {
			continue
		}
		live++
		err = errors.Join(err, end(ctx, t, c, s.Grace))
	}
	return live, err
}

// Guard: until the member has left its cluster, its etcd stays down.
func (s *StopMember) Guard(ctx context.Context, t *Target) (bool, error) {
	if exists(t, s.From) {
		return true, fmt.Errorf("someone has put %s back since this run took it out", s.From)
	}
	_, err := s.endAll(ctx, t)
	return true, err
}

// Done never says yes: whether anything still runs is found by carrying it out again.
func (s *StopMember) Done(context.Context, *Target) (bool, error) { return false, nil }

// Returned waits for what served before.
func (s *StopMember) Returned(ctx context.Context, t *Target) (known bool, err error) {
	return s.Served != nil, s.Served.again(ctx, t)
}

// RemoveMember removes a member from its cluster. It comes after the commit point, since nothing
// takes it back: etcd never accepts an id again that was removed (api/membership, ErrIDRemoved).
// The member may have left already: every node of a run has this operation, so that any of them can
// finish the run.
type RemoveMember struct {
	Access Access        `json:"access"` // of members that stay
	Member ID            `json:"member"`
	Name   string        `json:"name"` // for messages
	Limit  time.Duration `json:"limit"`
	// Running is where the member answers that is removed while it runs, because the cluster would
	// have no quorum if it were stopped first; nil: it has been stopped, or nobody knows.
	Running *Access `json:"running,omitempty"`
}

func (r *RemoveMember) String() string {
	if r.Running != nil {
		return fmt.Sprintf("remove member %s (%s) from the cluster while it runs, unless that is done",
			r.Member, r.Name)
	}
	return fmt.Sprintf("remove member %s (%s) from the cluster, unless that is done", r.Member, r.Name)
}

// Do retries: within five seconds of a restart etcd finds its cluster unhealthy, and refuses.
func (r *RemoveMember) Do(ctx context.Context, t *Target) error {
	what := fmt.Sprintf("member %s is not removed", r.Name)
	err := poll(ctx, t, what, r.Limit, 200*time.Millisecond, func(ctx context.Context) error {
		listed, err := r.listed(ctx, t)
		if err != nil || !listed {
			return err
		}
		if err := r.handOver(ctx, t); err != nil {
			return err
		}
		if err := t.Etcd.RemoveMember(ctx, r.Access, r.Member); err != nil {
			return err
		}
		if listed, err = r.listed(ctx, t); err == nil && listed {
			err = errors.New("it is still listed")
		}
		return err
	})
	if err != nil || r.Running == nil {
		return err
	}
	what = fmt.Sprintf("it is not certain that the members that stay remember that %s has left", r.Name)
	return poll(ctx, t, what, r.Limit, 200*time.Millisecond, func(ctx context.Context) error {
		return r.engrave(ctx, t)
	})
}

// handOver has a running member that leads hand over to one that stays. A leader may end before the
// others have heard that its removal is agreed: two members cannot agree on anything then (raft's
// own description, go.etcd.io/raft: "a problem when removing a member from a two-member cluster").
func (r *RemoveMember) handOver(ctx context.Context, t *Target) error {
	if r.Running == nil {
		return nil
	}
	var stays Answer
	var err error
	for _, at := range r.Access.Endpoints {
		if stays, err = t.Etcd.Started(ctx, r.Access.At(at)); err == nil {
			break
		}
	}
	if err != nil || ID(stays.Leader) != r.Member {
		return err
	}
	if err := t.Etcd.MoveLeader(ctx, *r.Running, ID(stays.MemberID)); err != nil {
		return fmt.Errorf("it leads, and does not hand over: %w", err)
	}
	return nil
}

// engrave makes the removal durable before anything may stop the member for good. etcd writes to
// its log what is agreed, but syncs that only with the next entry (raft.MustSync): a power loss on
// the last of two would bring back a member that still waits for the other's vote. Telling etcd the
// peer URLs that a member has is such an entry, and changes nothing.
func (r *RemoveMember) engrave(ctx context.Context, t *Target) error {
	members, err := t.Etcd.Members(ctx, r.Access)
	if err != nil {
		return err
	}
	for _, m := range members {
		if !m.IsLearner && m.ID != r.Member {
			return t.Etcd.SetPeerURLs(ctx, r.Access, m.ID, m.PeerURLs)
		}
	}
	return nil
}

func (r *RemoveMember) listed(ctx context.Context, t *Target) (bool, error) {
	members, err := t.Etcd.Members(ctx, r.Access)
	for _, m := range members {
		if m.ID == r.Member {
			return true, err
		}
	}
	return false, err
}

// Undo is never asked for: the commit point comes first.
func (r *RemoveMember) Undo(ctx context.Context, t *Target) error {
	listed, err := r.listed(ctx, t)
	if err == nil && !listed {
		err = fmt.Errorf("member %s has left the cluster, and etcd never takes the ID %s again", r.Name, r.Member)
	}
	return err
}

// Done asks by doing: who cannot ask the members now waits for them.
func (r *RemoveMember) Done(context.Context, *Target) (bool, error) { return false, nil }
