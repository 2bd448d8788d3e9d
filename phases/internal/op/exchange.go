package op

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Identity tells directories apart across renames, crashes and reboots: device numbers may change
// with a reboot, these do not.
type Identity struct {
	Absent     bool   `json:"absent,omitempty"`
	Filesystem string `json:"filesystem,omitempty"`
	Inode      uint64 `json:"inode,omitempty"`
	Marker     string `json:"marker,omitempty"` // the run that staged it
}

func identify(t *Target, name string) (Identity, error) {
	st, err := t.Host.FS.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{Absent: true}, nil
	}
	if err != nil {
		return Identity{}, fmt.Errorf("cannot look at %s: %w", name, err)
	}
	fsid, err := t.Host.FS.FilesystemID(name)
	if err != nil {
		return Identity{}, fmt.Errorf("cannot name the file system of %s: %w", name, err)
	}
	return Identity{Filesystem: fsid, Inode: st.Ino, Marker: marker(t, name)}, nil
}

// Exchange swaps etcd's data directory with the staged one. It reads its progress from the
// identities of the two directories, so it can be cut off anywhere. Where the file system cannot
// swap two names in one step, it uses renames through Park.
type Exchange struct {
	Fence Fence  `json:"fence"`
	Live  string `json:"live"` // where etcd looks: /var/lib/etcd/member
	// Where the new data is staged, and the old data is kept afterwards.
	Staged string `json:"staged"`
	Park   string `json:"park"` // a free name beside Staged

	Old Identity `json:"old"` // of what was at Live
	New Identity `json:"new"` // of what was at Staged
}

func (x *Exchange) String() string { return fmt.Sprintf("exchange %s and %s", x.Live, x.Staged) }

// Record notes which directory is which.
func (x *Exchange) Record(_ context.Context, t *Target) (err error) {
	if x.Old, err = identify(t, x.Live); err != nil {
		return err
	}
	if x.New, err = identify(t, x.Staged); err != nil {
		return err
	}
	if x.New.Absent {
		return fmt.Errorf("cannot exchange %s: the staged data %s is not there", x.Live, x.Staged)
	}
	return nil
}

func (x *Exchange) Do(ctx context.Context, t *Target) error {
	return x.Fence.behind(ctx, t, func() error { return x.arrange(t, x.New) })
}

func (x *Exchange) Undo(ctx context.Context, t *Target) error {
	return x.Fence.behind(ctx, t, func() error { return x.arrange(t, x.Old) })
}

func (x *Exchange) Done(_ context.Context, t *Target) (bool, error) {
	at, err := x.look(t)
	if err != nil {
		return false, err
	}
	if at.live != x.New || !at.park.Absent {
		return false, nil
	}
	return true, x.sync(t)
}

type places struct{ live, staged, park Identity }

// look says where each directory is. Anything else in their places (an unmounted disk, a directory
// that someone made) is an error.
func (x *Exchange) look(t *Target) (at places, err error) {
	for name, id := range map[string]*Identity{x.Live: &at.live, x.Staged: &at.staged, x.Park: &at.park} {
		if *id, err = identify(t, name); err != nil {
			return at, err
		}
		if !id.Absent && *id != x.Old && *id != x.New {
			return at, fmt.Errorf("cannot exchange %s and %s: %s is neither the old data nor the staged data; is a "+
				"disk not mounted, or did somebody replace it?", x.Live, x.Staged, name)
		}
	}
	found := func(want Identity) bool {
		return want.Absent || at.live == want || at.staged == want || at.park == want
	}
	if !found(x.Old) || !found(x.New) {
		return at, fmt.Errorf("cannot exchange %s and %s: the data that was there is gone; is a disk not mounted?",
			x.Live, x.Staged)
	}
	return at, nil
}

// arrange moves live to Live, and the other directory to Staged, wherever they are.
func (x *Exchange) arrange(t *Target, live Identity) error {
	for range 4 { // at most: live→park, staged→live, park→staged, and a look
		at, err := x.look(t)
		if err != nil {
			return err
		}
		switch {
		case at.live == live && at.park.Absent:
			return x.sync(t) // the last step may not be durable
		case at.live == live:
			err = x.rename(t, x.Park, x.Staged)
		case at.live.Absent && at.park == live:
			err = x.rename(t, x.Park, x.Live)
		case at.live.Absent:
			err = x.rename(t, x.Staged, x.Live)
		case at.staged.Absent:
			err = x.rename(t, x.Live, x.Staged)
		default:
			err = t.Host.FS.Exchange(x.Live, x.Staged)
			if errors.Is(err, node.ErrExchangeUnsupported) {
				err = x.rename(t, x.Live, x.Park)
			}
		}
		if err != nil {
			return fmt.Errorf("cannot exchange %s and %s: %w", x.Live, x.Staged, err)
		}
		if err := x.sync(t); err != nil {
			return err
		}
	}
	return fmt.Errorf("cannot exchange %s and %s: something else is moving them", x.Live, x.Staged)
}

func (x *Exchange) rename(t *Target, from, to string) error { return t.Host.FS.Rename(from, to) }

func (x *Exchange) sync(t *Target) error {
	for _, dir := range []string{path.Dir(x.Live), path.Dir(x.Staged)} {
		if err := t.Host.FS.Sync(dir); err != nil {
			return fmt.Errorf("cannot make the exchange of %s durable: %w", x.Live, err)
		}
	}
	return nil
}
