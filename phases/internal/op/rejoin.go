package op

import (
	"context"
	"fmt"
	"time"
)

// MoveAside moves the directory that etcd uses out of its way: the member joins another cluster, and begins with nothing. It is kept.
type MoveAside struct {
	Fence Fence  `json:"fence"`
	From  string `json:"from"` // where etcd looks: /var/lib/etcd/member
	To    string `json:"to"`   // on the same mount; does not exist yet

	Old Identity `json:"old"` // of what was at From
}

func (m *MoveAside) String() string { return fmt.Sprintf("move %s to %s", m.From, m.To) }

// Record notes what is moved; nothing, where the data is gone already.
func (m *MoveAside) Record(_ context.Context, t *Target) (err error) {
	m.Old, err = identify(t, m.From)
	return err
}

func (m *MoveAside) Do(ctx context.Context, t *Target) error {
	return m.Fence.behind(ctx, t, func() error { return m.move(t, m.From, m.To) })
}

func (m *MoveAside) Undo(ctx context.Context, t *Target) error {
	return m.Fence.behind(ctx, t, func() error { return m.move(t, m.To, m.From) })
}

func (m *MoveAside) move(t *Target, from, to string) error {
	if m.Old.Absent {
		return nil
	}
	at, err := m.look(t)
	if err != nil {
		return err
	}
	if at == from {
		if err := t.Host.FS.Rename(from, to); err != nil {
			return fmt.Errorf("cannot move %s to %s: %w", from, to, err)
		}
	}
	return syncDirs(t, m.From, m.To)
}

// look returns where the old data is. Something else in either place is an error.
func (m *MoveAside) look(t *Target) (at string, err error) {
	for _, name := range []string{m.From, m.To} {
		id, err := identify(t, name)
		switch {
		case err != nil:
			return "", err
		case id == m.Old:
			at = name
		case !id.Absent:
			return "", fmt.Errorf("cannot move %s to %s: %s is not the data that was there; is a disk not mounted, or did somebody replace it?", m.From, m.To, name)
		}
	}
	if at == "" {
		return "", fmt.Errorf("cannot move %s to %s: the data that was there is gone; is a disk not mounted?", m.From, m.To)
	}
	return at, nil
}

func (m *MoveAside) Done(_ context.Context, t *Target) (bool, error) {
	if m.Old.Absent {
		return true, nil
	}
	at, err := m.look(t)
	return at == m.To, err
}

// AddLearner adds this node to the cluster as a member that does not vote yet. It is known by its peer URL, so it is never added twice.
type AddLearner struct {
	Access   Access        `json:"access"` // of a member that votes
	PeerURLs []string      `json:"peerURLs"`
	Limit    time.Duration `json:"limit"`
}

func (a *AddLearner) String() string {
	return "add the learner " + a.PeerURLs[0] + " to the cluster"
}

// Do asks again for a while: etcd refuses a learner while the one before is not promoted, and while the members do not see each other.
func (a *AddLearner) Do(ctx context.Context, t *Target) error {
	return poll(ctx, t, "cannot add the learner", a.Limit, 200*time.Millisecond, func(ctx context.Context) error {
		return t.Etcd.AddLearner(ctx, a.Access, a.PeerURLs)
	})
}

func (a *AddLearner) Undo(ctx context.Context, t *Target) error {
	return t.Etcd.RemoveLearner(ctx, a.Access, a.PeerURLs[0])
}

func (a *AddLearner) Done(context.Context, *Target) (bool, error) { return false, nil }

// PromoteLearner waits until this node's member has what the leader has, and lets it vote.
type PromoteLearner struct {
	Access  Access        `json:"access"` // of a member that votes
	PeerURL string        `json:"peerURL"`
	Limit   time.Duration `json:"limit"`
}

func (p *PromoteLearner) String() string {
	return fmt.Sprintf("let %s vote when it has what the leader has, %s at most", p.PeerURL, p.Limit)
}

func (p *PromoteLearner) Do(ctx context.Context, t *Target) error {
	if err := startKubelet(ctx, t); err != nil {
		return err
	}
	return poll(ctx, t, "the learner is not promoted", p.Limit, 200*time.Millisecond, func(ctx context.Context) error {
		return t.Etcd.PromoteLearner(ctx, p.Access, p.PeerURL)
	})
}

// Undo has nothing to do: what the member is by then, the undoing of its addition ends.
func (p *PromoteLearner) Undo(context.Context, *Target) error         { return nil }
func (p *PromoteLearner) Done(context.Context, *Target) (bool, error) { return false, nil }
