package op

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

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
		return Identity{}, fmt.Errorf("cannot identify the file system of %s: %w", name, err)
	}
	return Identity{Filesystem: fsid, Inode: st.Ino, Marker: marker(t, name)}, nil
}

// Kept is a place where a run keeps data, and how that data is told from anybody else's.
type Kept struct {
	Path string
	May  []Identity // what may be there; nothing: the journal does not tell
	Note string     // a file with the identity; empty: May says it
}

// Keeps are the places where an operation keeps data.
func Keeps(o Op) (all []Kept) {
	switch o := o.(type) {
	case *Exchange:
		for _, name := range []string{o.Staged, o.Park} {
			all = append(all, Kept{Path: name, May: []Identity{o.Old, o.New}})
		}
	case *ExchangeBoth:
		all = Keeps(&o.Data)
		if o.Log != nil {
			all = append(all, Keeps(o.Log)...)
		}
	case *MoveAside:
		all = append(all, Kept{Path: o.To, May: []Identity{o.Old}})
	case *ClaimData:
		kept := Kept{Path: o.Keep}
		if o.Receipt != "" {
			kept.Note = o.KeptAs()
		}
		all = append(all, kept)
	}
	return all
}

// Stranger says whether something is kept there that is not the run's.
func (k Kept) Stranger(fs node.FS) (bool, error) {
	t := &Target{Host: &node.Host{FS: fs}}
	now, err := identify(t, k.Path)
	if err != nil || now.Absent {
		return false, err
	}
	may := k.May
	if k.Note != "" {
		var noted Identity
		if err := readJSON(t, k.Note, &noted); err == nil {
			may = append(may, noted)
		}
	}
	return !slices.Contains(may, now), nil
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
		return fmt.Errorf("cannot exchange %s: the staged data %s is missing", x.Live, x.Staged)
	}
	return nil
}

func (x *Exchange) Do(ctx context.Context, t *Target) error {
	return x.Fence.behind(ctx, t, func() error { return x.forth(t) })
}

func (x *Exchange) forth(t *Target) error { return x.arrange(t, x.New) }
func (x *Exchange) back(t *Target) error  { return x.arrange(t, x.Old) }

// Undo keeps what was in place where the new data was staged.
func (x *Exchange) Undo(ctx context.Context, t *Target) error {
	return x.Fence.behind(ctx, t, func() error {
		if err := agreed(ctx, t, x); err != nil {
			return err
		}
		return x.back(t)
	})
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

// Lasts fails when something else is where the new data was put.
func (x *Exchange) Lasts(ctx context.Context, t *Target) error {
	at, err := identify(t, x.Live)
	if err != nil || at == x.New {
		return err
	}
	return fmt.Errorf("%s is not the data that this run put there: is a disk missing, or a different one mounted, or "+
		"has someone moved it? Put it back, and run the command again%s", x.Live, writtenThere(ctx, t, x.Live))
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
				"disk not mounted, or has someone replaced it?", x.Live, x.Staged, name)
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
		settled := at.live == live && at.park.Absent
		if !settled {
			if err := noMounts(t, x.Live, x.Staged, x.Park); err != nil {
				return fmt.Errorf("cannot exchange %s and %s: %w", x.Live, x.Staged, err)
			}
		}
		switch {
		case settled:
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
	return fmt.Errorf("cannot exchange %s and %s: another program is moving them", x.Live, x.Staged)
}

// noMounts fails if something is mounted at or below one of the directories: it would be carried
// along.
func noMounts(t *Target, dirs ...string) error {
	for _, dir := range dirs {
		mounted, err := node.MountIn(t.Host.FS, dir)
		if err != nil {
			return fmt.Errorf("cannot look for mounts below %s: %w", dir, err)
		}
		if mounted != "" {
			return fmt.Errorf("something is mounted at %s and would move along: unmount it, and run the command "+
				"again", mounted)
		}
	}
	return nil
}

func (x *Exchange) rename(t *Target, from, to string) error { return t.Host.FS.Rename(from, to) }

func (x *Exchange) sync(t *Target) error {
	for _, dir := range []string{path.Dir(x.Live), path.Dir(x.Staged)} {
		if err := t.Host.FS.Sync(dir); err != nil {
			return fmt.Errorf("cannot sync the exchange of %s: %w", x.Live, err)
		}
	}
	return nil
}
