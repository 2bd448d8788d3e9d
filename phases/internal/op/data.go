package op

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
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
		if err := noMounts(t, from); err != nil {
			return fmt.Errorf("cannot move %s to %s: %w", from, to, err)
		}
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
			return "", fmt.Errorf("cannot move %s to %s: %s is not the data that was there; is a disk not mounted, "+
				"or has someone replaced it?", m.From, m.To, name)
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
	// Pod is etcd's, which is ended first. Without a name nothing is known of a kubelet: if
	// somebody has started one, it ends etcd once the manifest is gone, and the run waits for that.
	Pod     Pod           `json:"pod"`
	Timeout time.Duration `json:"timeout"` // for it to end
	// Receipt is a file in the run's folder with the identity of the directory: another disk may be
	// mounted there later, with data that this run has not made. Earlier versions had none.
	Receipt string `json:"receipt,omitempty"`
	// Begins: the member begins a cluster, so nobody else holds what it acknowledges.
	Begins bool `json:"begins,omitempty"`

	NoDir    bool `json:"noDir"`    // there was no directory
	NoMember bool `json:"noMember"` // the directory held no data
	// Empty are the directories of a member that held nothing else: no data, either.
	Empty []string `json:"empty,omitempty"`
	Was   Identity `json:"was,omitzero"` // of the directory that was there
}

func (c *ClaimData) String() string {
	return "make the data directory " + c.Dir + " if it does not exist"
}

func (c *ClaimData) member() string { return path.Join(c.Dir, "member") }

// Record notes what was there.
func (c *ClaimData) Record(_ context.Context, t *Target) (err error) {
	c.NoDir, c.NoMember = !exists(t, c.Dir), !exists(t, c.member())
	if c.Was, err = identify(t, c.Dir); err != nil || c.NoMember {
		return err
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

// wasEmpty says whether there was no data before the run.
func (c *ClaimData) wasEmpty() bool { return c.NoMember || len(c.Empty) > 0 }

// written says whether there is data that was not there before the run.
func (c *ClaimData) written(t *Target) bool { return c.wasEmpty() && c.holdsData(t) }

// holdsData says whether there is data. If the member directory was empty, empty directories are
// none.
func (c *ClaimData) holdsData(t *Target) bool {
	if len(c.Empty) == 0 {
		return exists(t, c.member())
	}
	_, only, err := node.OnlyDirs(t.Host.FS, c.member())
	return !only && !errors.Is(err, fs.ErrNotExist)
}

func (c *ClaimData) Do(ctx context.Context, t *Target) error {
	if err := t.Host.FS.Mkdir(c.Dir, c.Attr); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot create the data directory %s: %w", c.Dir, err)
	}
	if err := syncDirs(t, c.Dir); err != nil || c.Receipt == "" {
		return err
	}
	if exists(t, c.Receipt) { // by an earlier attempt
		return errors.Join(syncDirs(t, c.Receipt), c.Lasts(ctx, t))
	}
	now, err := identify(t, c.Dir)
	switch {
	case err != nil:
		return err
	case !c.Was.Absent && now != c.Was, c.Was.Absent && exists(t, c.member()):
		return c.another(ctx, t)
	}
	return writeJSON(t, c.Receipt, now)
}

// mine says whether the directory is the one that the run has claimed.
func (c *ClaimData) mine(t *Target) (bool, error) {
	if c.Receipt == "" {
		return true, nil
	}
	var claimed Identity
	switch err := readJSON(t, c.Receipt, &claimed); {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	now, err := identify(t, c.Dir)
	return now == claimed, err
}

func (c *ClaimData) another(ctx context.Context, t *Target) error {
	return fmt.Errorf("%s is not the directory that this run claimed: is another disk mounted there? Nothing in it "+
		"is touched; unmount it, or put back what was there, and run the command again%s",
		c.Dir, writtenThere(ctx, t, c.member()))
}

// Lasts fails when another directory is there.
func (c *ClaimData) Lasts(ctx context.Context, t *Target) error {
	if mine, err := c.mine(t); err != nil || mine {
		return err
	}
	return c.another(ctx, t)
}

func (c *ClaimData) Undo(ctx context.Context, t *Target) error {
	mine := c.Keep != "" && c.wasEmpty()
	if exists(t, c.Dir) && c.Receipt != "" {
		own, err := c.mine(t)
		switch {
		case err != nil:
			return err
		case !own && exists(t, c.Receipt):
			return c.another(ctx, t)
		case !own && exists(t, c.member()): // the run's etcd was never started
			if c.holdsData(t) {
				t.warn(finding.LeftInPlace, c.Dir,
					"%s is left alone: it holds data that this run did not create", c.Dir)
			}
			return nil
		}
	}
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

// moveAside needs the kubelet stopped, so that nothing restarts, and etcd ended: its manifest is
// gone by now. The kubelet starts again when the run has gone back.
func (c *ClaimData) moveAside(ctx context.Context, t *Target) error {
	f := Fence{DataDirs: []string{c.Dir}, Databases: []string{path.Join(c.member(), "snap/db")}, Timeout: c.Timeout}
	if c.Pod.Name != "" {
		f.Pods = []Pod{c.Pod}
	}
	return f.behind(ctx, t, func() error {
		if err := errors.Join(agreed(ctx, t, c), noMounts(t, c.member())); err != nil {
			return err
		}
		if err := node.MkdirAll(t.Host.FS, path.Dir(c.Keep), node.Mine(0o700)); err != nil {
			return err
		}
		if err := c.noteKept(t); err != nil {
			return err
		}
		if err := node.Move(t.Host.FS, c.member(), c.Keep); err != nil {
			return err
		}
		t.report("what etcd has written is kept as %s", c.Keep)
		return nil
	})
}

// KeptAs is the file with the identity of what was kept: of all that lies there later, only that is
// the run's.
func (c *ClaimData) KeptAs() string { return c.Receipt + ".kept" }

func (c *ClaimData) noteKept(t *Target) error {
	if c.Receipt == "" {
		return nil
	}
	kept, err := identify(t, c.member())
	if err != nil {
		return err
	}
	return writeJSON(t, c.KeptAs(), kept)
}

func (c *ClaimData) Done(ctx context.Context, t *Target) (bool, error) {
	if !exists(t, c.Dir) || c.Receipt != "" && !exists(t, c.Receipt) {
		return false, nil
	}
	if c.Receipt != "" {
		if err := errors.Join(syncDirs(t, c.Receipt), c.Lasts(ctx, t)); err != nil {
			return false, err
		}
	}
	return true, syncDirs(t, c.Dir)
}

func (c *ClaimData) FilesOnly() bool { return c.Pod.Name == "" }
