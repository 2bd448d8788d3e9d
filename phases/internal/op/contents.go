package op

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// ExchangeContents swaps what is in a directory that cannot be moved itself, because it is a mount
// point: a disk for etcd's log. Everything in it goes to where the new contents are staged, on the
// same mount, and those come into its place, one name after the other. The inodes say how far that
// got: so it can be cut off anywhere, and while it is half done the fence lets nobody see it.
type ExchangeContents struct {
	Fence  Fence  `json:"fence"`
	Live   string `json:"live"`   // the mount point
	Staged string `json:"staged"` // a directory below it, in one with a hidden name
	Park   string `json:"park"`   // a free name beside Staged

	At  Identity `json:"at"` // of Live
	Old []entry  `json:"old,omitempty"`
	New []entry  `json:"new,omitempty"`
}

// entry is one name in a directory, and what it names.
type entry struct {
	Name  string `json:"name"`
	Inode uint64 `json:"inode"`
}

func (x *ExchangeContents) String() string {
	return fmt.Sprintf("exchange what is in %s, a mount point, and in %s", x.Live, x.Staged)
}

// Record notes what is in both directories.
func (x *ExchangeContents) Record(_ context.Context, t *Target) (err error) {
	if x.At, err = identify(t, x.Live); err != nil {
		return err
	}
	if x.Old, err = entries(t, x.Live); err != nil {
		return err
	}
	x.New, err = entries(t, x.Staged)
	return err
}

// entries are the names in a directory, but for what belongs to the file system, or to runs.
func entries(t *Target, dir string) (all []entry, err error) {
	names, err := t.Host.FS.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot look at %s: %w", dir, err)
	}
	for _, name := range names {
		if slices.Contains(node.NobodysNames(), name) || strings.HasPrefix(name, ".etcdpod-") {
			continue
		}
		st, err := t.Host.FS.Lstat(path.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("cannot look at %s: %w", dir, err)
		}
		all = append(all, entry{name, st.Ino})
	}
	return all, nil
}

func (x *ExchangeContents) Do(ctx context.Context, t *Target) error {
	return x.Fence.behind(ctx, t, func() error { return x.forth(t) })
}

func (x *ExchangeContents) forth(t *Target) error { return x.arrange(t, x.New, x.Old) }

func (x *ExchangeContents) Undo(ctx context.Context, t *Target) error {
	return x.Fence.behind(ctx, t, func() error {
		if err := agreed(ctx, t, x); err != nil {
			return err
		}
		return x.back(t)
	})
}

func (x *ExchangeContents) back(t *Target) (err error) {
	back := *x
	if back.New, err = x.since(t); err != nil {
		return err
	}
	return back.arrange(t, back.Old, back.New)
}

// since is what the new contents have become: an etcd that ran on them has added files, and may
// have removed some.
func (x *ExchangeContents) since(t *Target) (all []entry, err error) {
	for _, dir := range []string{x.Live, x.Staged, x.Park} {
		in, err := x.in(t, dir)
		if err != nil {
			return nil, err
		}
		for _, e := range in {
			e.Name = strings.TrimPrefix(strings.TrimPrefix(e.Name, "old."), "new.")
			if !slices.ContainsFunc(x.Old, func(old entry) bool { return old.Inode == e.Inode }) {
				all = append(all, e)
			}
		}
	}
	return all, nil
}

// Promised counts what was written to the new log while it is in place.
func (x *ExchangeContents) Promised(ctx context.Context, t *Target) (int, error) {
	in, err := x.in(t, x.Live)
	old := func(e entry) bool { return slices.Contains(x.Old, e) }
	if err != nil || len(x.New) == 0 || len(in) == 0 || slices.ContainsFunc(in, old) {
		return 0, err
	}
	return t.Etcd.Written(ctx, x.Live)
}

func (x *ExchangeContents) Aside() string { return x.Staged }

// in are the entries in a directory; none if it is not there.
func (x *ExchangeContents) in(t *Target, dir string) ([]entry, error) {
	all, err := entries(t, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return all, err
}

// arrange brings live into the mount point, and other to where it is kept, wherever they are. In
// between, other waits in Park, under names of its own: both may use the same names.
func (x *ExchangeContents) arrange(t *Target, live, other []entry) error {
	if err := x.check(t); err != nil {
		return err
	}
	if err := node.MkdirAll(t.Host.FS, x.Park, node.Mine(0o700)); err != nil {
		return err
	}
	for _, step := range []struct {
		what []entry
		from []string
		to   func(entry) string
	}{
		{other, []string{x.Live}, x.parked(other)},
		{live, []string{x.Staged, x.Park}, func(e entry) string { return path.Join(x.Live, e.Name) }},
		{other, []string{x.Park}, func(e entry) string { return path.Join(x.Staged, e.Name) }},
	} {
		for _, e := range step.what {
			if err := x.move(t, e, step.from, step.to(e)); err != nil {
				return err
			}
		}
		for _, dir := range []string{x.Live, x.Staged, x.Park} {
			if err := t.Host.FS.Sync(dir); err != nil {
				return fmt.Errorf("cannot sync the exchange in %s: %w", x.Live, err)
			}
		}
	}
	return remove(t, x.Park)
}

// parked is where an entry waits: old and new ones apart.
func (x *ExchangeContents) parked(of []entry) func(entry) string {
	prefix := "new."
	if len(of) > 0 && slices.Contains(x.Old, of[0]) {
		prefix = "old."
	}
	return func(e entry) string { return path.Join(x.Park, prefix+e.Name) }
}

// move renames an entry if it is in one of the directories, under its own name or as it was parked.
func (x *ExchangeContents) move(t *Target, e entry, from []string, to string) error {
	for _, dir := range from {
		for _, prefix := range []string{"", "old.", "new."} {
			name := path.Join(dir, prefix+e.Name)
			st, err := t.Host.FS.Lstat(name)
			if errors.Is(err, fs.ErrNotExist) || err == nil && st.Ino != e.Inode {
				continue
			}
			if err == nil {
				err = t.Host.FS.Rename(name, to)
			}
			if err != nil {
				return fmt.Errorf("cannot move %s to %s: %w", name, to, err)
			}
			return nil
		}
	}
	return nil
}

// check fails if anything is not where the run has left it, or if something is mounted below.
func (x *ExchangeContents) check(t *Target) error {
	at, err := identify(t, x.Live)
	if err != nil {
		return err
	}
	if at != x.At {
		return fmt.Errorf("cannot exchange what is in %s: no disk is mounted there, or a different one", x.Live)
	}
	there := map[uint64]bool{}
	for _, dir := range []string{x.Live, x.Staged, x.Park} {
		all, err := x.in(t, dir)
		if err != nil {
			return err
		}
		for _, e := range all {
			there[e.Inode] = true
			if err := noMounts(t, path.Join(dir, e.Name)); err != nil {
				return err
			}
			if dir == x.Live && !slices.Contains(x.Old, e) && !slices.Contains(x.New, e) {
				return fmt.Errorf("cannot exchange what is in %s: someone has put %s there since; move it away",
					x.Live, e.Name)
			}
		}
	}
	for _, e := range slices.Concat(x.Old, x.New) {
		if !there[e.Inode] {
			return fmt.Errorf("cannot exchange what is in %s: %s, one of the things to be exchanged, is gone",
				x.Live, e.Name)
		}
	}
	return nil
}

// Lasts fails when the new contents are not there any more. etcd adds files, and removes old ones.
func (x *ExchangeContents) Lasts(_ context.Context, t *Target) error {
	at, err := identify(t, x.Live)
	if err != nil || at == x.At {
		return err
	}
	return fmt.Errorf("%s is not the mount that this run put etcd's WAL on: is a disk missing, or a different one "+
		"mounted?",
		x.Live)
}

// Done says yes when nothing is left of what was there.
func (x *ExchangeContents) Done(_ context.Context, t *Target) (bool, error) {
	in, err := x.in(t, x.Live)
	if err != nil || exists(t, x.Park) {
		return false, err
	}
	for _, e := range x.New {
		if !slices.Contains(in, e) {
			return false, nil
		}
	}
	for _, e := range x.Old {
		if slices.Contains(in, e) {
			return false, nil
		}
	}
	return true, errors.Join(t.Host.FS.Sync(x.Live), t.Host.FS.Sync(x.Staged), syncDirs(t, x.Park))
}
