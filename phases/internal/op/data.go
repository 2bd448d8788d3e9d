package op

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// How the data directory is made, and moved away.

// MoveAside moves the data directory away, and keeps it: the member joins another
// cluster and starts empty.
type MoveAside struct {
	Fence Fence  `json:"fence"`
	From  string `json:"from"` // where etcd looks: /var/lib/etcd/member
	To    string `json:"to"`   // on the same mount; does not exist yet

	Old Identity `json:"old"` // of what was at From
}

func (m *MoveAside) String() string { return fmt.Sprintf("move %s to %s", m.From, m.To) }

// Record notes what is moved; nothing if the data is already gone.
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

// look returns where the old data is. Anything else in either place is an error.
func (m *MoveAside) look(t *Target) (at string, err error) {
	for _, name := range []string{m.From, m.To} {
		id, err := identify(t, name)
		switch {
		case err != nil:
			return "", err
		case id == m.Old:
			at = name
		case !id.Absent:
			return "", fmt.Errorf("cannot move %s to %s: %s is not the data that was there; is a disk not mounted, or "+
				"did somebody replace it?", m.From, m.To, name)
		}
	}
	if at == "" {
		return "", fmt.Errorf("cannot move %s to %s: the data that was there is gone; is a disk not mounted?",
			m.From, m.To)
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

// ClaimData makes the data directory of a new member. When the run goes back, data that the run's
// etcd has written there is kept, not deleted.
type ClaimData struct {
	Dir  string    `json:"dir"`
	Attr node.Attr `json:"attr"`
	Keep string    `json:"keep"` // where Dir/member goes on the way back, on the same mount
	// Pod is etcd's, which is ended first. Without a name nothing is known to run here, and the
	// data stays in the directory.
	Pod     Pod           `json:"pod"`
	Timeout time.Duration `json:"timeout"` // for it to end

	NoDir    bool `json:"noDir"`    // there was no directory
	NoMember bool `json:"noMember"` // the directory held no data
	// Empty are the directories of a member that held nothing else: no data, either.
	Empty []string `json:"empty,omitempty"`
}

func (c *ClaimData) String() string {
	return "make the data directory " + c.Dir + ", if it is not there"
}

func (c *ClaimData) member() string { return path.Join(c.Dir, "member") }

// Record notes what was there.
func (c *ClaimData) Record(_ context.Context, t *Target) error {
	c.NoDir, c.NoMember = !exists(t, c.Dir), !exists(t, c.member())
	if c.NoMember {
		return nil
	}
	dirs, only, err := node.OnlyDirs(t.Host.FS, c.member())
	if err != nil {
		return fmt.Errorf("cannot look into %s: %w", c.member(), err)
	}
	if only {
		c.Empty = dirs
	}
	return nil
}

// written says whether there is data that was not there before the run.
func (c *ClaimData) written(t *Target) bool {
	if len(c.Empty) == 0 {
		return c.NoMember && exists(t, c.member())
	}
	_, only, err := node.OnlyDirs(t.Host.FS, c.member())
	return !only && !errors.Is(err, fs.ErrNotExist)
}

func (c *ClaimData) Do(_ context.Context, t *Target) error {
	if err := t.Host.FS.Mkdir(c.Dir, c.Attr); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make the data directory %s: %w", c.Dir, err)
	}
	return syncDirs(t, c.Dir)
}

func (c *ClaimData) Undo(ctx context.Context, t *Target) error {
	mine := c.Pod.Name != "" && (c.NoMember || len(c.Empty) > 0)
	switch {
	case mine && c.written(t):
		if err := c.moveAside(ctx, t); err != nil {
			return err
		}
	case mine && exists(t, c.Keep) && exists(t, c.Dir):
		// An earlier attempt moved it, and may not have synced it.
		if err := syncDirs(t, c.Keep, c.member()); err != nil {
			return err
		}
	}
	if mine {
		for _, dir := range c.Empty {
			if err := (&MakeDirectory{Path: dir, Attr: c.Attr}).Do(ctx, t); err != nil {
				return err
			}
		}
	}
	if !c.NoDir {
		return nil
	}
	made := MakeDirectory{Path: c.Dir, Attr: c.Attr}
	return made.Undo(ctx, t)
}

// moveAside needs the kubelet stopped, so that nothing restarts, and etcd ended. The kubelet starts
// again when the run has gone back.
func (c *ClaimData) moveAside(ctx context.Context, t *Target) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	f := Fence{DataDirs: []string{c.Dir}, Databases: []string{path.Join(c.member(), "snap/db")}, Timeout: c.Timeout}
	if err := endPod(ctx, t, c.Pod, c.Timeout); err != nil {
		return err
	}
	if err := f.proveUnused(ctx, t); err != nil {
		return err
	}
	unlock, err := f.lock(t)
	if err != nil {
		return err
	}
	err = node.MkdirAll(t.Host.FS, path.Dir(c.Keep), node.Mine(0o700))
	if err == nil {
		err = node.Move(t.Host.FS, c.member(), c.Keep)
	}
	if err == nil {
		t.report("what etcd has written is kept as %s", c.Keep)
	}
	return errors.Join(err, unlock())
}

func (c *ClaimData) Done(_ context.Context, t *Target) (bool, error) {
	if !exists(t, c.Dir) {
		return false, nil
	}
	return true, syncDirs(t, c.Dir)
}

func (c *ClaimData) FilesOnly() bool { return c.Pod.Name == "" }
