package op

import (
	"context"
	"fmt"
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
	if err != nil || at != m.To {
		return false, err
	}
	return true, syncDirs(t, m.From, m.To)
}
