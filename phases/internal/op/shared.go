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
type shared struct {
	path string
	// SHA-256, hex, of what was there when the run was planned, and of what the run puts there. Old
	// is empty where there was nothing.
	old, new string
	// kept is where the old file goes, if it goes anywhere: made by moving the file itself.
	kept string
}

// errEdited: what is there is neither the old file nor the run's own. It stays.
var errEdited = errors.New("someone has changed it since the run was planned")

// beside is where the file waits that goes in, and then the one that came out. The dot keeps the
// kubelet from running it.
func beside(file string) string {
	return path.Join(path.Dir(file), "."+path.Base(file)+".etcdpod-swap")
}

func (s shared) known(sum string) bool { return sum == s.new || sum == s.old }

// at follows a symbolic link: the link stays, and its target is replaced.
func (s shared) at(t *Target) (string, error) {
	real, err := t.Host.FS.Resolve(s.path)
	if err != nil {
		return "", fmt.Errorf("cannot find %s: %w", s.path, err)
	}
	return real, nil
}

// replace puts data in the place of what is there, with its owner, mode and label. It fails with
// errEdited, and changes nothing, unless that is the old file or the run's own.
func (s shared) replace(t *Target, data []byte) error {
	real, err := s.at(t)
	if err != nil {
		return err
	}
	if err := s.settle(t); err != nil {
		return err
	}
	there, st, err := read(t, real)
	switch sum := sumOfData(there); {
	case err != nil:
		return err
	case !st.Mode.IsRegular():
		return fmt.Errorf("cannot write %s: not a regular file", real)
	case sum == sumOfData(data): // by an earlier attempt
		return nil
	case !s.known(sum):
		return errEdited
	}
	if err := node.WriteNew(t.Host.FS, beside(real), data, st.Attr()); err != nil {
		return err
	}
	err = s.exchange(t, real)
	if errors.Is(err, node.ErrExchangeUnsupported) {
		return s.replaceUnseen(t, real, there)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot replace %s: %w", real, err), remove(t, beside(real)))
	}
	if err := syncDirs(t, real); err != nil {
		return err
	}
	return s.settle(t)
}

// exchange swaps the file with the one beside it. The order of the names matters to the kubelet: as
// Linux tells it, the first one goes away, and then comes back. The other way round the kubelet
// would drop the pod of a manifest that is there, until it looks at all files again, 20 s later.
func (s shared) exchange(t *Target, real string) error {
	return t.Host.FS.Exchange(real, beside(real))
}

// replaceUnseen is for a file system without an exchange (NFS): an edit in the instant before the
// rename is lost.
func (s shared) replaceUnseen(t *Target, real string, old []byte) error {
	if s.kept != "" && sumOfData(old) == s.old {
		if err := node.WriteAtomic(t.Host.FS, s.kept, old, node.Mine(0o600)); err != nil {
			return err
		}
	}
	if now, err := sumOf(t, real); err != nil || !s.known(now) {
		return errors.Join(err, errEdited, remove(t, beside(real)))
	}
	if err := t.Host.FS.Replace(beside(real), real); err != nil {
		return fmt.Errorf("cannot replace %s: %w", real, err)
	}
	return syncDirs(t, real)
}

// takeAway removes the run's own file. It fails with errEdited, and changes nothing, if another one
// is there.
func (s shared) takeAway(t *Target) error {
	if err := s.look(t); err != nil {
		return err
	}
	real, err := s.at(t)
	if err != nil || !exists(t, real) {
		return err
	}
	if err := t.Host.FS.Rename(real, beside(real)); err != nil {
		return fmt.Errorf("cannot remove %s: %w", real, err)
	}
	if err := syncDirs(t, real); err != nil {
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

// settle ends what an interrupted attempt left, and makes the file's name durable. If what came out
// is an edit, it gives it back and fails with errEdited.
func (s shared) settle(t *Target) error {
	real, err := s.at(t)
	if err != nil {
		return err
	}
	if !exists(t, path.Dir(real)) {
		return nil
	}
	aside := beside(real)
	if err := errors.Join(node.DropTemp(t.Host.FS, real), node.DropTemp(t.Host.FS, aside)); err != nil {
		return err
	}
	out, _, err := read(t, aside)
	switch sum := sumOfData(out); {
	case errors.Is(err, fs.ErrNotExist):
		return syncDirs(t, real)
	case err != nil:
		return err
	case sum == s.old && s.kept != "":
		return s.keep(t, real, aside)
	case s.known(sum):
		return remove(t, aside)
	}
	if err := s.giveBack(t, real, aside); err != nil {
		return err
	}
	return errEdited
}

// settled says whether nothing waits beside the file.
func (s shared) settled(t *Target) bool {
	real, err := s.at(t)
	return err == nil && !exists(t, beside(real))
}

// keep puts the old file that came out where it is kept, unless it is there, or back in place.
func (s shared) keep(t *Target, real, aside string) error {
	now, err := sumOf(t, real)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if exists(t, s.kept) || err == nil && now == s.old {
		return remove(t, aside)
	}
	return node.Move(t.Host.FS, aside, s.kept)
}

// giveBack puts an edit that came out back in its place. The run's own file comes out then; if it
// is yet another edit, that is the newer one, and the person gets both.
func (s shared) giveBack(t *Target, real, aside string) error {
	both := fmt.Errorf("someone has changed %s twice just now: the later version is there, the earlier one is %s; "+
		"keep what is right, and remove the other", real, aside)
	now, err := sumOf(t, real)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = t.Host.FS.Rename(aside, real)
		return errors.Join(err, syncDirs(t, real))
	case err != nil:
		return err
	case !s.known(now):
		return both
	}
	if err := s.exchange(t, real); err != nil {
		return fmt.Errorf("cannot put back %s, which someone has changed just now and which is %s: %w",
			real, aside, err)
	}
	if err := syncDirs(t, real); err != nil {
		return err
	}
	out, err := sumOf(t, aside)
	if err != nil {
		return err
	}
	if !s.known(out) {
		return errors.Join(both, s.exchange(t, real), syncDirs(t, real))
	}
	return s.settle(t) // the run's own file, or the old one
}
