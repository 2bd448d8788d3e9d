package op

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Scratch is a directory of a rehearsal, which nobody else can enter and which goes with it. It is
// locked as long as its rehearsal lives: what one that was killed has left, the next one finds
// unlocked, and removes.
type Scratch struct {
	Dir string // host path

	unlock func() error
}

// scratchPrefix begins its name; the rest nobody can know beforehand.
const scratchPrefix = ".etcdpod-rehearsal-"

// OpenScratch makes one in a directory that is there, after it has removed what is left there of
// others.
func OpenScratch(ctx context.Context, t *Target, in string) (*Scratch, error) {
	if err := removeScratch(t, in); err != nil {
		return nil, err
	}
	var err error
	for range 10 {
		s := &Scratch{Dir: path.Join(in, scratchPrefix+rand.Text())}
		if err = t.Host.FS.Mkdir(s.Dir, node.Mine(0o700)); err != nil {
			break
		}
		// Another rehearsal may take it for one that is left before it is locked.
		if s.unlock, err = t.Host.FS.Lock(s.Dir); err == nil {
			if exists(t, s.Dir) {
				return s, nil
			}
			_ = s.unlock()
		}
		if err := t.Host.Clock.Sleep(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("cannot make a scratch directory in %s: %w", in, err)
}

// Close removes it, and all in it.
func (s *Scratch) Close(t *Target) error {
	return errors.Join(node.RemoveTree(t.Host.FS, s.Dir), s.unlock())
}

// removeScratch removes what rehearsals that were killed have left. Of what bears such a name, only
// a directory of this user's that nobody else could enter is one.
func removeScratch(t *Target, in string) error {
	names, err := t.Host.FS.ReadDir(in)
	if err != nil {
		return fmt.Errorf("cannot look for what earlier rehearsals left in %s: %w", in, err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, scratchPrefix) {
			continue
		}
		if err := removeLeft(t, path.Join(in, name)); err != nil {
			return fmt.Errorf("cannot remove what an earlier rehearsal left: %w", err)
		}
	}
	return nil
}

func removeLeft(t *Target, dir string) (err error) {
	before, err := t.Host.FS.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !before.Mode.IsDir() || before.UID != node.Mine(0).UID || before.Mode.Perm()&0o077 != 0 {
		return err
	}
	unlock, err := t.Host.FS.Lock(dir)
	if errors.Is(err, node.ErrLocked) || errors.Is(err, fs.ErrNotExist) {
		return nil // that of one that lives, or another one is removing it
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if after, err := t.Host.FS.Lstat(dir); err != nil || after.Ino != before.Ino || after.Dev != before.Dev {
		return nil
	}
	return node.RemoveTree(t.Host.FS, dir)
}

// KeepRehearsal writes what came out of rehearsals, for the next one and for status.
func KeepRehearsal(t *Target, name string, kept any) error {
	if err := MakeHome(t, path.Dir(name)); err != nil {
		return err
	}
	return writeJSON(t, name, kept)
}

// MakeHome makes etcdpod's own directory, if it is not there.
func MakeHome(t *Target, home string) error {
	if err := node.MkdirAll(t.Host.FS, path.Dir(home), node.Mine(0o755)); err != nil {
		return err
	}
	return node.MkdirAll(t.Host.FS, home, node.Mine(0o700))
}
