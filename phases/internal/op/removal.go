package op

import (
	"context"
	"errors"
	"fmt"
	"time"
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
}

func (s *StopMember) String() string {
	return fmt.Sprintf("move %s to %s, and wait until etcd has exited", s.From, s.To)
}

// Record notes what runs.
func (s *StopMember) Record(ctx context.Context, t *Target) error {
	return errors.Join(s.TakeOutManifest.Record(ctx, t), s.Served.record(ctx, t))
}

func (s *StopMember) Do(ctx context.Context, t *Target) error {
	if err := s.TakeOutManifest.Do(ctx, t); err != nil {
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
}

func (r *RemoveMember) String() string {
	return fmt.Sprintf("remove member %s (%s) from the cluster, unless that is done", r.Member, r.Name)
}

// Do retries: within five seconds of a restart etcd finds its cluster unhealthy, and refuses.
func (r *RemoveMember) Do(ctx context.Context, t *Target) error {
	what := fmt.Sprintf("member %s is not removed", r.Name)
	return poll(ctx, t, what, r.Limit, 200*time.Millisecond, func(ctx context.Context) error {
		listed, err := r.listed(ctx, t)
		if err != nil || !listed {
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
		err = fmt.Errorf("member %s has left the cluster, and etcd never takes the id %s again", r.Name, r.Member)
	}
	return err
}

// Done asks by doing: who cannot ask the members now waits for them.
func (r *RemoveMember) Done(context.Context, *Target) (bool, error) { return false, nil }
