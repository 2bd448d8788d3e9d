package op

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// What clients were promised must not be given up without a word: once an API server has run on new
// data, somebody may rely on what it has acknowledged. The write-ahead log tells, whoever started
// that API server, and whether it still runs.

// Promising is an operation that puts data in place which clients can write to. Undoing it takes
// that data out of use.
type Promising interface {
	// Promised counts the acknowledged writes that only this data holds. It is 0 when the data is
	// not in place, or not any more.
	Promised(context.Context, *Target) (writes int, err error)
	// Aside is where the data is kept once the operation is undone. It is known in advance: whoever
	// gives up what nobody could count must be told, too.
	Aside() string
}

// GivenUpError says that undoing would give up acknowledged writes, or might, and that nobody has
// agreed.
type GivenUpError struct {
	Writes  int
	Kept    string // where the data that holds them is kept, if it is given up
	Unknown string // why the writes cannot be counted; empty if they are
}

func (e *GivenUpError) Error() string {
	if e.Unknown != "" {
		return fmt.Sprintf("nothing tells whether clients have written to the new data since it was put in place "+
			"(%s), and undoing would lose such writes", e.Unknown)
	}
	return fmt.Sprintf("clients have written to the new data since it was put in place (%s), and undoing would lose "+
		"those writes", times(e.Writes))
}

func times(n int) string {
	if n == 1 {
		return "at least once"
	}
	return fmt.Sprintf("%d times", n)
}

// agreed is what an operation asks before it takes data out of use, behind the fence: from here on
// nobody can write any more, so the answer is final.
func agreed(ctx context.Context, t *Target, o Promising) error {
	writes, err := o.Promised(ctx, t)
	switch kept := o.Aside(); {
	case err != nil:
		t.warn(finding.WritesKept, kept,
			"cannot determine whether clients have written to the new data: %v; it is kept anyway", err)
	case writes > 0 && !t.GiveUp:
		return &GivenUpError{Writes: writes, Kept: kept}
	case writes > 0:
		t.warn(finding.WritesKept, kept,
			"clients had written to the new data %s; it is kept as %s", times(writes), kept)
	}
	return nil
}

// logOf is the write-ahead log of a member directory, or the directory itself where it is one;
// empty where the log is elsewhere, and so is another operation's.
func logOf(t *Target, member string) string {
	switch wal := path.Join(member, "wal"); {
	case exists(t, wal):
		return wal
	case exists(t, path.Join(member, "snap")):
		return ""
	}
	return member
}

// written counts the writes in the log of a member directory. A directory without a log, which an
// etcd that was killed at its start may leave, has none.
func written(ctx context.Context, t *Target, member string) (int, error) {
	log := logOf(t, member)
	if log == "" {
		return 0, nil
	}
	names, err := t.Host.FS.ReadDir(log)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(names) == 0 {
		return 0, nil
	}
	return t.Etcd.Written(ctx, log)
}

// writtenThere warns whoever takes away data that is not the run's: an etcd may have begun on it.
func writtenThere(ctx context.Context, t *Target, member string) string {
	writes, err := written(ctx, t, member)
	switch {
	case err != nil:
		return fmt.Sprintf(". Keep what is there now: it is not known whether clients have written to it (%v)", err)
	case writes > 0:
		return fmt.Sprintf(". Keep what is there now: clients have written to it %s, and nothing else holds those "+
			"writes",
			times(writes))
	}
	return ""
}

// Promised counts what was written to the new data while it is in place.
func (x *Exchange) Promised(ctx context.Context, t *Target) (int, error) {
	at, err := identify(t, x.Live)
	if err != nil || at.Absent || at != x.New {
		return 0, err
	}
	return written(ctx, t, x.Live)
}

func (x *Exchange) Aside() string { return x.Staged }

// Promised counts what was written to a cluster that this run has begun. Of one that it joins, the
// other members hold everything.
func (c *ClaimData) Promised(ctx context.Context, t *Target) (int, error) {
	if !c.Begins || !c.written(t) {
		return 0, nil
	}
	if mine, err := c.mine(t); err != nil || !mine {
		return 0, err
	}
	return written(ctx, t, c.member())
}

func (c *ClaimData) Aside() string { return c.Keep }
