package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Home is where etcdpod keeps its runs and its lock; mode 0700.
const Home = "/var/lib/etcdpod"

// RunsDir holds one directory per run, named by the run's id.
const RunsDir = Home + "/runs"

const lockFile = Home + "/lock"

// RunDir is the directory of one run.
func RunDir(id string) string { return path.Join(RunsDir, id) }

// Prepare makes the directory of a new run, durably, and makes the ends of earlier runs durable.
func Prepare(fsys node.FS, id string) error {
	if err := KeepEnded(fsys); err != nil {
		return err
	}
	return node.MkdirAll(fsys, RunDir(id), node.Mine(0o700))
}

// KeepEnded makes durable what the journals say when no run is open: the process that ended the
// last run may have been killed before it could sync the end record, and a power loss would open
// the run again.
func KeepEnded(fsys node.FS) error {
	ids, err := fsys.ReadDir(RunsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot list the runs: %w", err)
	}
	for _, id := range ids {
		name := path.Join(RunDir(id), Name)
		if err := fsys.Sync(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot sync journal %s: %w", name, err)
		}
	}
	return nil
}

// GiveBack frees the room that the journals of ended runs still reserve. What they say stays.
func GiveBack(fsys node.FS) error {
	runs, err := List(fsys)
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.State == nil || !r.State.Ended {
			continue
		}
		name := path.Join(RunDir(r.ID), Name)
		st, err := fsys.Lstat(name)
		if err == nil {
			err = fsys.Truncate(name, st.Size) // what is reserved lies behind its end
		}
		if err != nil {
			return fmt.Errorf("cannot release the space that journal %s reserves: %w", name, err)
		}
	}
	return nil
}

// Listed is one run of this node.
type Listed struct {
	ID    string
	State *State // nil when it cannot be read; Err says why
	Err   error
}

// List returns this node's runs, oldest first. It leaves out a directory without a begin record:
// the run crashed before it had done anything.
func List(fsys node.Reader) ([]Listed, error) {
	names, err := fsys.ReadDir(RunsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the runs: %w", err)
	}
	var runs []Listed
	for _, id := range names {
		state, err := Read(fsys, RunDir(id))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		runs = append(runs, Listed{ID: id, State: state, Err: err})
	}
	slices.SortStableFunc(runs, func(a, b Listed) int { // ids only resolve seconds
		if a.State == nil || b.State == nil {
			return 0
		}
		return a.State.Began.Compare(b.State.Began)
	})
	return runs, nil
}

// Holder is who holds the node's lock.
type Holder struct {
	PID     int       `json:"pid"`
	Command []string  `json:"command"`
	Since   time.Time `json:"since"`
}

// BusyError says that another etcdpod is changing this node.
type BusyError struct{ Holder Holder }

func (e *BusyError) Error() string {
	if e.Holder.PID == 0 {
		return "another etcdpod is changing this node"
	}
	return fmt.Sprintf("another etcdpod is changing this node: process %d since %s (%s)",
		e.Holder.PID, e.Holder.Since.Format(time.RFC3339), strings.Join(e.Holder.Command, " "))
}

// Hint says what to do.
func (e *BusyError) Hint() string {
	return "wait until it has ended: `etcdpod runs show --follow` shows what a run under way does"
}

// Held says whether an etcdpod is changing this node right now.
func Held(ctx context.Context, fsys node.Reader, clock node.Clock) bool {
	unlock, err := tryLock(ctx, fsys, clock)
	if err == nil {
		_ = unlock() // the lock ends with this process at the latest
	}
	return errors.Is(err, node.ErrLocked)
}

// lockTries and lockPause allow for a child process that a dead holder was just starting: the child
// holds a copy of the lock until its exec, some milliseconds later.
const (
	lockTries = 20
	lockPause = 25 * time.Millisecond
)

func tryLock(ctx context.Context, fsys node.Reader, clock node.Clock) (unlock func() error, err error) {
	for range lockTries {
		unlock, err = fsys.Lock(lockFile)
		if !errors.Is(err, node.ErrLocked) || clock.Sleep(ctx, lockPause) != nil {
			break
		}
	}
	return unlock, err
}

// Lock takes the node's lock, which allows one changing command at a time. It lasts until unlock or
// the end of the process. If another process holds it, Lock fails with a *BusyError after half a
// second.
func Lock(ctx context.Context, fsys node.FS, clock node.Clock, me Holder) (unlock func() error, err error) {
	// An empty --root has no /var/lib; other programs read it, too.
	if err := node.MkdirAll(fsys, path.Dir(Home), node.Mine(0o755)); err != nil {
		return nil, err
	}
	if err := node.MkdirAll(fsys, Home, node.Mine(0o700)); err != nil {
		return nil, err
	}
	if err := fsys.Create(lockFile, nil, node.Mine(0o600)); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("cannot create the lock: %w", err)
	}
	unlock, err = tryLock(ctx, fsys, clock)
	if errors.Is(err, node.ErrLocked) {
		busy := &BusyError{}
		if data, err := fsys.ReadFile(lockFile); err == nil {
			// A holder that has not written its name yet is still a holder.
			_ = json.Unmarshal(data, &busy.Holder)
		}
		return nil, busy
	}
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", lockFile, err)
	}
	// The name is for people to read; on a full disk the lock works without it.
	if name, err := json.Marshal(me); err == nil && fsys.Truncate(lockFile, 0) == nil {
		_ = fsys.Append(lockFile, name)
	}
	return unlock, nil
}
