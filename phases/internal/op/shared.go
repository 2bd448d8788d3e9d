package op

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// shared is a file that people and their tools write too: a manifest that the kubelet runs, a
// certificate in use. Somebody may save an edit between a look at it and a rename over it. So the
// run's own file is written beside it, the two names are exchanged, and what came out is looked at:
// an edit is given back. Until that is settled it lies beside the file, whatever happens.
//
// What lies beside the file tells how far an attempt came. The new file is written there before the
// old one is copied to kept, and the copy is dropped before the new file is: so a copy with nothing
// beside the file means that the run has replaced it.
type shared struct {
	path string
	// SHA-256, hex, of what was there when the run was planned, and of what the run puts there. Old
	// is empty where there was nothing.
	old, new string
	kept     string // where a copy of the old file is kept; empty: nowhere
}

// errEdited: what is there is neither the old file nor the run's own. It stays.
var errEdited = errors.New("someone has changed it since the run was planned")

// beside is where the file waits that goes in, and then the one that came out. The dot keeps the
// kubelet from running it.
func (s shared) beside() string {
	return path.Join(path.Dir(s.path), "."+path.Base(s.path)+".etcdpod-swap")
}

func (s shared) known(sum string) bool { return sum == s.new || sum == s.old }

// unused fails if something lies beside the file before a run that may put something there has
// begun: what is found there later is the run's.
func (s shared) unused(t *Target) error {
	s, there, err := s.at(t)
	if err != nil || !there || !exists(t, s.beside()) {
		return err
	}
	return fmt.Errorf("cannot begin: %s is there, which no open run has put there (it may have come back with a "+
		"backup of the directory): look at it, and remove it", s.beside())
}

// at follows a symbolic link: the link stays, and its target is replaced. Where the directory is
// gone, so is the file.
func (s shared) at(t *Target) (real shared, there bool, err error) {
	resolved, err := t.Host.FS.Resolve(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, false, nil
	case err != nil:
		return s, false, fmt.Errorf("cannot find %s: %w", s.path, err)
	}
	s.path = resolved
	return s, exists(t, path.Dir(s.path)), nil
}

// replace puts data in the place of what is there, with its owner, mode and label. It fails with
// errEdited, and changes nothing, unless that is the old file or the run's own.
func (s shared) replace(t *Target, data []byte) error {
	if err := s.settle(t); err != nil {
		return err
	}
	s, _, err := s.at(t)
	if err != nil {
		return err
	}
	there, st, err := read(t, s.path)
	switch sum := sumOfData(there); {
	case err != nil:
		return err
	case !st.Mode.IsRegular():
		return fmt.Errorf("cannot write %s: not a regular file", s.path)
	case sum == sumOfData(data): // by an earlier attempt
		return nil
	case !s.known(sum):
		return errEdited
	}
	if err := node.WriteNew(t.Host.FS, s.beside(), data, st.Attr()); err != nil {
		return err
	}
	if s.kept != "" && sumOfData(there) == s.old {
		if err := node.WriteAtomic(t.Host.FS, s.kept, there, node.Mine(0o600)); err != nil {
			return errors.Join(err, s.drop(t, sumOfData(data)))
		}
	}
	err = s.exchange(t)
	if errors.Is(err, node.ErrExchangeUnsupported) {
		return s.replaceUnseen(t)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot replace %s: %w", s.path, err), s.drop(t, sumOfData(data)))
	}
	if err := syncDirs(t, s.path); err != nil {
		return err
	}
	return s.settle(t)
}

// exchange swaps the file with the one beside it. The order of the names matters to the kubelet: as
// Linux tells it, the first one goes away, and then comes back. The other way round the kubelet
// would drop the pod of a manifest that is there, until it looks at all files again, 20 s later.
func (s shared) exchange(t *Target) error { return t.Host.FS.Exchange(s.path, s.beside()) }

// replaceUnseen is for a file system without an exchange (NFS): an edit in the instant before the
// rename is lost.
func (s shared) replaceUnseen(t *Target) error {
	now, err := sumOf(t, s.path)
	if err == nil && !s.known(now) {
		err = errEdited
	}
	if err != nil {
		return errors.Join(err, s.settle(t))
	}
	if err := t.Host.FS.Replace(s.beside(), s.path); err != nil {
		return fmt.Errorf("cannot replace %s: %w", s.path, err)
	}
	return syncDirs(t, s.path)
}

// takeAway removes the run's own file. It fails with errEdited, and changes nothing, if another one
// is there.
func (s shared) takeAway(t *Target) error {
	if err := s.look(t); err != nil {
		return err
	}
	s, there, err := s.at(t)
	if err != nil || !there || !exists(t, s.path) {
		return err
	}
	if err := t.Host.FS.Rename(s.path, s.beside()); err != nil {
		return fmt.Errorf("cannot remove %s: %w", s.path, err)
	}
	if err := syncDirs(t, s.path); err != nil {
		return err
	}
	return s.settle(t)
}

// look fails with errEdited if a file is there that is not the run's own.
func (s shared) look(t *Target) error {
	if err := s.settle(t); err != nil {
		return err
	}
	switch now, err := sumOf(t, s.path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case now != s.new:
		return errEdited
	}
	return nil
}

// settle ends what an interrupted attempt left, and makes the file's name durable. If what lies
// beside the file is an edit, it gives that back and fails with errEdited.
func (s shared) settle(t *Target) error {
	s, there, err := s.at(t)
	if err != nil || !there {
		return err
	}
	if err := errors.Join(node.DropTemp(t.Host.FS, s.path), node.DropTemp(t.Host.FS, s.beside())); err != nil {
		return err
	}
	out, _, err := read(t, s.beside())
	switch sum := sumOfData(out); {
	case errors.Is(err, fs.ErrNotExist):
		return syncDirs(t, s.path)
	case err != nil:
		return err
	case s.known(sum):
		return s.drop(t, sum)
	}
	if err := s.giveBack(t); err != nil {
		return err
	}
	return errEdited
}

// drop removes what lies beside the file and is known. Where that is the new file, it is not in
// place, and no copy of the old one is needed; where it is the old file, there must be a copy.
func (s shared) drop(t *Target, sum string) error {
	now, err := sumOf(t, s.path)
	gone := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !gone:
		return err
	case s.kept == "":
	case gone && sum == s.new && exists(t, s.kept):
		return fmt.Errorf("%s is gone: someone has removed it; what was there is kept as %s: copy it back", s.path,
			s.kept)
	case sum == s.new && now != s.new:
		if err := errors.Join(node.DropTemp(t.Host.FS, s.kept), remove(t, s.kept)); err != nil {
			return err
		}
	case sum == s.old && now != s.old && !exists(t, s.kept):
		return node.Move(t.Host.FS, s.beside(), s.kept)
	}
	return remove(t, s.beside())
}

// settled says whether nothing lies beside the file.
func (s shared) settled(t *Target) bool {
	s, there, err := s.at(t)
	return err == nil && (!there || !exists(t, s.beside()))
}

// giveBack puts an edit that came out back in its place, over what the run, or its undoing, has put
// there. If something else is there by now, the person gets both. Which is the later is not known:
// an attempt may have been killed between its two exchanges.
func (s shared) giveBack(t *Target) error {
	both := fmt.Errorf("someone has changed %s twice just as the run replaced it: one version is there, another "+
		"is %s; look at both, keep what is right, and remove the other", s.path, s.beside())
	now, err := sumOf(t, s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = t.Host.FS.Rename(s.beside(), s.path)
		return errors.Join(err, syncDirs(t, s.path))
	case err != nil:
		return err
	case !s.known(now):
		return both
	}
	if err := s.exchange(t); err != nil {
		return fmt.Errorf("cannot put back %s, which someone has changed just now and which is %s: %w",
			s.path, s.beside(), err)
	}
	if err := syncDirs(t, s.path); err != nil {
		return err
	}
	out, err := sumOf(t, s.beside())
	if err != nil {
		return err
	}
	if out != now {
		return errors.Join(both, s.exchange(t), syncDirs(t, s.path))
	}
	return s.drop(t, out)
}
