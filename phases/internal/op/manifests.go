package op

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// TakeOutManifest moves a manifest from the static-pod directory to the run's folder.
//
// Across mounts it copies the content, and renames the original to a dot name, which the kubelet
// ignores (kubelet, pkg/kubelet/config/file.go), until the manifest is put back. So putting it back
// needs no room on a full disk.
type TakeOutManifest struct {
	From string `json:"from"`
	To   string `json:"to"`
	// SHA256 is the planned file's, hex: one that has changed since is not taken out.
	SHA256 string `json:"sha256"`
}

func (m *TakeOutManifest) String() string { return fmt.Sprintf("move %s to %s", m.From, m.To) }

// Record looks at where the manifest will come back: what lies there then is the run's.
func (m *TakeOutManifest) Record(_ context.Context, t *Target) error {
	return shared{path: m.From}.unused(t)
}

func (m *TakeOutManifest) hidden() string { return hiddenName(m.From) }

// hiddenName is where the original waits when the folder is on another mount.
func hiddenName(manifest string) string {
	return path.Join(path.Dir(manifest), "."+path.Base(manifest)+".etcdpod-kept")
}

func (m *TakeOutManifest) Do(_ context.Context, t *Target) error {
	data, st, err := read(t, m.From)
	gone := errors.Is(err, fs.ErrNotExist)
	if err != nil && !gone {
		return err
	}
	kept, _, err := read(t, m.To)
	switch {
	case errors.Is(err, fs.ErrNotExist) && gone:
		return fmt.Errorf("cannot take out %s: it is gone", m.From)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case gone:
		return m.look(t)
	case err == nil && !bytes.Equal(kept, data):
		return fmt.Errorf("cannot take out %s: it was changed since it was copied to %s", m.From, m.To)
	case sumOfData(data) != m.SHA256:
		return m.edited()
	}
	if err := m.settleHidden(t, data); err != nil {
		return err
	}
	same, err := node.SameMount(t.Host.FS, path.Dir(m.From), path.Dir(m.To))
	if err != nil {
		return err
	}
	if same {
		if err := node.Move(t.Host.FS, m.From, m.To); err != nil {
			return err
		}
		return m.look(t)
	}
	if err := node.WriteAtomic(t.Host.FS, m.To, data, st.Attr()); err != nil {
		return err
	}
	if err := t.Host.FS.Rename(m.From, m.hidden()); err != nil {
		return fmt.Errorf("cannot take out %s: %w", m.From, err)
	}
	return m.look(t)
}

func (m *TakeOutManifest) edited() error {
	return fmt.Errorf("cannot take out %s: someone has changed it since the run was planned; run the command again",
		m.From)
}

// taken is the file that was taken out: the original itself, where it waits.
func (m *TakeOutManifest) taken(t *Target) string {
	if exists(t, m.hidden()) {
		return m.hidden()
	}
	return m.To
}

// look makes what was taken out durable. If it is an edit that somebody saved at the last moment,
// it puts that back.
func (m *TakeOutManifest) look(t *Target) error {
	if err := syncDirs(t, m.To, m.From); err != nil {
		return err
	}
	sum, err := sumOf(t, m.taken(t))
	if err != nil || sum == m.SHA256 {
		return err
	}
	return errors.Join(m.edited(), node.Move(t.Host.FS, m.taken(t), m.From))
}

// Undo puts the manifest back, whatever is there now: the fence has parked that.
func (m *TakeOutManifest) Undo(_ context.Context, t *Target) error {
	if !exists(t, m.From) && exists(t, m.hidden()) {
		if err := t.Host.FS.Rename(m.hidden(), m.From); err != nil {
			return fmt.Errorf("cannot put back %s: %w", m.From, err)
		}
	}
	if exists(t, m.From) { // not taken out, or already put back
		if err := syncDirs(t, m.From); err != nil {
			return err
		}
		there, _, err := read(t, m.From)
		if err != nil {
			return err
		}
		if err := m.settleHidden(t, there); err != nil {
			return err
		}
		return m.dropCopy(t, there)
	}
	if !exists(t, m.To) {
		return fmt.Errorf("cannot put back %s: both it and %s are missing", m.From, m.To)
	}
	return node.Move(t.Host.FS, m.To, m.From)
}

// settleHidden handles an original that still waits under its dot name although a file is in its
// place: it drops a duplicate, and keeps a different file in the run's folder.
func (m *TakeOutManifest) settleHidden(t *Target, there []byte) error {
	kept, _, err := read(t, m.hidden())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case bytes.Equal(kept, there):
		return remove(t, m.hidden())
	}
	t.warn(finding.ManifestChanged, m.From,
		"%s differs from the one that was taken out, which is kept as %s.original", m.From, m.To)
	return node.Move(t.Host.FS, m.hidden(), m.To+".original")
}

// dropCopy removes the copy in the run's folder if it matches the file that is back in place.
func (m *TakeOutManifest) dropCopy(t *Target, there []byte) error {
	if !exists(t, m.To) { // an earlier attempt dropped it
		return syncDirs(t, m.To)
	}
	kept, _, err := read(t, m.To)
	if err != nil || !bytes.Equal(there, kept) {
		return err
	}
	return remove(t, m.To)
}

func (m *TakeOutManifest) Done(_ context.Context, t *Target) (bool, error) {
	if exists(t, m.From) || !exists(t, m.To) {
		return false, nil
	}
	if sum, err := sumOf(t, m.taken(t)); err != nil || sum != m.SHA256 {
		return false, err
	}
	return true, syncDirs(t, m.To, m.From)
}

// File is a file that an operation writes where there is none.
type File struct {
	Path string    `json:"path"`
	Data []byte    `json:"data"`
	Attr node.Attr `json:"attr"`
}

var errAnotherFile = errors.New("another file is there")

// inPlace says whether the file is there, and makes that durable. What is there and differs is
// errAnotherFile.
func (f File) inPlace(t *Target) (bool, error) {
	there, _, err := read(t, f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !bytes.Equal(there, f.Data):
		return false, errAnotherFile
	}
	return true, settleWritten(t, f.Path)
}

// own is the file as the run put it there.
func (f File) own() shared { return shared{path: f.Path, new: sumOfData(f.Data)} }

// done is inPlace for one that asks whether an operation was carried out.
func (f File) done(t *Target) (bool, error) {
	there, err := f.inPlace(t)
	if errors.Is(err, errAnotherFile) {
		return false, nil
	}
	return there, err
}

// PutBackManifest puts a manifest that was taken out, or one made from it, into the static-pod
// directory, for the kubelet to run.
type PutBackManifest struct {
	File
	Fence Fence `json:"fence"`
	// Alone: nothing else that is fenced may run beside it yet, so the fence is raised again first.
	Alone bool `json:"alone,omitempty"`
	// With Alone, the pod that the manifest runs. Earlier versions did not say.
	Pod string `json:"pod,omitempty"`
	// Reserve leaves the original under its dot name: that is the room to go back with. Past the
	// commit point [GiveUpReserve] gives it up. Earlier versions did so at once.
	Reserve bool `json:"reserve,omitempty"`
	// Joining: it starts a member that joins. etcd refuses to start unless --initial-cluster names
	// the members that there are by then, and a node that was to join before may have been lost.
	Joining *Joining `json:"joining,omitempty"`
}

func (m *PutBackManifest) String() string { return fmt.Sprintf("put %s back", m.Path) }

// Record makes sure that what lies beside the manifest later is the run's. Past the commit point
// nothing will.
func (m *PutBackManifest) Record(_ context.Context, t *Target) error {
	if !m.Alone {
		return nil
	}
	return m.own().unused(t)
}

func (m *PutBackManifest) Do(ctx context.Context, t *Target) error {
	if err := m.Joining.settle(ctx, t, &m.File); err != nil {
		return err
	}
	if m.Alone { // release the locks before the file appears: etcd must not find them held
		if err := m.Fence.behind(ctx, t, func() error { return nil }); err != nil {
			return err
		}
	}
	return m.put(t)
}

// Guard: of all that is fenced, only this manifest's pod may run, and it as it was put there.
func (m *PutBackManifest) Guard(ctx context.Context, t *Target) (bool, error) {
	if !m.Alone {
		return false, nil
	}
	if m.Pod == "" {
		return true, nil // of an earlier version: what waits for its etcd has to be enough
	}
	if err := m.Fence.Only(ctx, t, m.Path, m.Pod); err != nil {
		return true, err
	}
	there, _, err := read(t, m.Path)
	if err != nil {
		return true, fmt.Errorf("someone has removed it since this run put it back: %w", err)
	}
	if !bytes.Equal(there, m.Data) {
		return true, fmt.Errorf("someone has changed %s since this run put it back", m.Path)
	}
	return true, nil
}

func (m *PutBackManifest) put(t *Target) error {
	there, err := m.inPlace(t)
	switch {
	case errors.Is(err, errAnotherFile):
		return fmt.Errorf("cannot put back %s: someone put another file there; move it away, then run `etcdpod resume`",
			m.Path)
	case err != nil:
		return err
	case !there:
		if err := m.write(t); err != nil {
			return err
		}
	}
	return m.dropHidden(t)
}

// write needs room for the file. After the commit point, where nothing goes back, a full disk does
// not stop it: it puts the original itself in place.
func (m *PutBackManifest) write(t *Target) error {
	err := node.WriteNew(t.Host.FS, m.Path, m.Data, m.Attr)
	if !errors.Is(err, syscall.ENOSPC) || m.Alone {
		return err
	}
	for _, original := range []string{hiddenName(m.Path), path.Join(m.Fence.Parking, path.Base(m.Path))} {
		if kept, _, readErr := read(t, original); readErr == nil &&
			bytes.Equal(kept, m.Data) && t.Host.FS.Rename(original, m.Path) == nil {
			return syncDirs(t, m.Path, original)
		}
	}
	return err
}

// dropHidden removes the original under its dot name; the run's folder has a copy.
func (m *PutBackManifest) dropHidden(t *Target) error {
	if m.Reserve {
		return nil
	}
	return dropOriginal(t, m.Path, path.Join(m.Fence.Parking, path.Base(m.Path)))
}

// dropOriginal removes an original that waited under its dot name. If it is no copy of what was
// taken out, somebody edited it at the last moment: then it is kept in the run's folder.
func dropOriginal(t *Target, manifest, kept string) error {
	hidden := hiddenName(manifest)
	original, _, err := read(t, hidden)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, copied := range []string{kept, manifest} {
		if there, _, err := read(t, copied); err == nil && bytes.Equal(there, original) {
			return remove(t, hidden)
		}
	}
	t.warn(finding.ManifestChanged, manifest,
		"%s was changed just as it was taken out; the version then is kept as %s.original", manifest, kept)
	return node.Move(t.Host.FS, hidden, kept+".original")
}

// Undo is fencing: it ends what the kubelet runs from this manifest, and removes the manifest.
func (m *PutBackManifest) Undo(ctx context.Context, t *Target) error {
	if err := stopKubelet(ctx, t); err != nil {
		return err
	}
	if err := m.own().takeAway(t); err != nil && !errors.Is(err, errEdited) {
		return err
	}
	return m.Fence.behind(ctx, t, func() error { return nil })
}

func (m *PutBackManifest) Done(_ context.Context, t *Target) (bool, error) {
	there, err := m.done(t)
	return there && (m.Reserve || !exists(t, hiddenName(m.Path))), err
}

// GiveUpReserve removes an original that waited under its dot name for the case that the run goes
// back. It is past the commit point: on a full disk there was room for going back until then.
type GiveUpReserve struct {
	Manifest string `json:"manifest"` // in its place by now
	Kept     string `json:"kept"`     // the copy in the run's folder
}

func (g *GiveUpReserve) String() string {
	return "discard what was kept for undoing beside " + g.Manifest
}

func (g *GiveUpReserve) Do(_ context.Context, t *Target) error {
	if err := dropOriginal(t, g.Manifest, g.Kept); err != nil {
		return err
	}
	return syncDirs(t, g.Manifest)
}

// Undo has nothing to take back: it is past the commit point.
func (g *GiveUpReserve) Undo(_ context.Context, t *Target) error { return syncDirs(t, g.Manifest) }

func (g *GiveUpReserve) Done(_ context.Context, t *Target) (bool, error) {
	hidden := hiddenName(g.Manifest)
	if exists(t, hidden) {
		return false, nil
	}
	return true, syncDirs(t, hidden)
}

// WriteManifest writes a new manifest into the static-pod directory, for a running kubelet to run.
// It never overwrites, and going back removes only what is known to be the run's own.
type WriteManifest struct {
	File
	// Pod is what the kubelet runs from it; it is ended before the manifest is removed. Without a
	// name nothing is known to run here.
	Pod     Pod           `json:"pod"`
	Timeout time.Duration `json:"timeout"` // for it to end
	// Enrolment is the member that the manifest starts, if it joins a cluster: it leaves before
	// its etcd stops. If it had its vote by then, the cluster would miss it: of two members,
	// both are the quorum.
	Enrolment *Enrolment `json:"enrolment,omitempty"`
	// Joining, past a commit point: the members may have changed since the run was planned, and
	// it cannot go back for that.
	Joining *Joining `json:"joining,omitempty"`
}

func (m *WriteManifest) String() string { return "write " + m.Path }

// Record makes sure that it does not exist: what is there later is the run's own.
func (m *WriteManifest) Record(_ context.Context, t *Target) error {
	if exists(t, m.Path) {
		return fmt.Errorf("cannot write %s: it has appeared since the run was planned", m.Path)
	}
	return m.own().unused(t)
}

func (m *WriteManifest) Do(ctx context.Context, t *Target) error {
	if err := m.Joining.settle(ctx, t, &m.File); err != nil {
		return err
	}
	there, err := m.inPlace(t)
	switch {
	case errors.Is(err, errAnotherFile):
		return fmt.Errorf("cannot write %s: someone has put another file there", m.Path)
	case err != nil || there:
		return err
	}
	return node.WriteNew(t.Host.FS, m.Path, m.Data, m.Attr)
}

// Undo removes only the run's own manifest: someone who changed it wants it to run, with the data
// and certificates that would be removed next.
func (m *WriteManifest) Undo(ctx context.Context, t *Target) error {
	there := exists(t, path.Dir(m.Path))
	if err := m.theirs(m.own().look(t)); err != nil {
		return err
	}
	if m.Enrolment != nil {
		if err := m.Enrolment.leave(ctx, t); err != nil {
			return err
		}
	}
	if !there {
		return nil
	}
	if m.Pod.Name != "" && exists(t, m.Path) {
		if err := endPod(ctx, t, m.Pod, m.Timeout); err != nil { // that takes a while
			return err
		}
	}
	return m.theirs(m.own().takeAway(t))
}

func (m *WriteManifest) theirs(err error) error {
	if errors.Is(err, errEdited) {
		return fmt.Errorf("cannot remove %s: someone has changed it, or put it there, since the run began; move it "+
			"out of the directory first", m.Path)
	}
	return err
}

func (m *WriteManifest) Done(_ context.Context, t *Target) (bool, error) { return m.done(t) }

func (m *WriteManifest) FilesOnly() bool { return m.Pod.Name == "" }
