package op

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// ReplaceManifest replaces an existing manifest. The kubelet ends the old pod and starts the new
// one. The old manifest is kept in the run's folder.
type ReplaceManifest struct {
	Path   string `json:"path"`
	Data   []byte `json:"data"`
	Change string `json:"change"` // in words
	Old    string `json:"old"`    // the planned file's SHA-256, hex
	Kept   string `json:"kept"`   // where it is kept
}

func (m *ReplaceManifest) String() string {
	return fmt.Sprintf("set %s in %s, and keep the old file as %s", m.Change, m.Path, m.Kept)
}

func (m *ReplaceManifest) shared() shared {
	return shared{path: m.Path, old: m.Old, new: sumOfData(m.Data), kept: m.Kept}
}

// Record makes sure that what lies beside the manifest later is the run's.
func (m *ReplaceManifest) Record(_ context.Context, t *Target) error { return m.shared().unused(t) }

// Do gives the new manifest the owner, mode and label of the old one.
func (m *ReplaceManifest) Do(_ context.Context, t *Target) error {
	err := m.shared().replace(t, m.Data)
	if errors.Is(err, errEdited) {
		return fmt.Errorf("cannot replace %s: %w; run the command again", m.Path, err)
	}
	return err
}

// Undo finds the old manifest still in place, or kept. If someone else has put another there after
// the run replaced it, it stays, and so does the run open: only a person can say which is right.
func (m *ReplaceManifest) Undo(_ context.Context, t *Target) error {
	if err := m.shared().settle(t); err != nil && !errors.Is(err, errEdited) {
		return err
	}
	now, err := sumOf(t, m.Path)
	gone, kept := errors.Is(err, fs.ErrNotExist), exists(t, m.Kept)
	switch {
	case gone && (!kept || !exists(t, path.Dir(m.Path))):
		t.warn(finding.ManifestChanged, m.Path, "%s is gone: someone else has removed it", m.Path)
		return nil
	case gone:
		return fmt.Errorf("cannot put back %s: someone has removed it since the run began; the previous file is kept "+
			"as %s: copy it back", m.Path, m.Kept)
	case err != nil:
		return fmt.Errorf("cannot put back %s: %w", m.Path, err)
	case now == m.Old:
	case kept:
		if err := m.putBack(t); err != nil {
			return err
		}
	case now == sumOfData(m.Data):
		return fmt.Errorf("cannot put back %s: someone has removed what was there, which was kept as %s: put the file "+
			"that is to stay there into its place", m.Path, m.Kept)
	default: // nothing was replaced
		t.warn(finding.ManifestChanged, m.Path, "%s is left alone: someone else has written it", m.Path)
		return nil
	}
	return errors.Join(node.DropTemp(t.Host.FS, m.Kept), remove(t, m.Kept))
}

func (m *ReplaceManifest) putBack(t *Target) error {
	kept, err := t.Host.FS.ReadFile(m.Kept)
	if err != nil {
		return fmt.Errorf("cannot put back %s: %w", m.Path, err)
	}
	if sumOfData(kept) != m.Old {
		return fmt.Errorf("cannot put back %s: %s is not what was there when the run began", m.Path, m.Kept)
	}
	err = m.shared().replace(t, kept)
	if errors.Is(err, errEdited) {
		return fmt.Errorf("cannot put back %s: someone has changed it since the run began; the previous file is kept "+
			"as %s: copy it back", m.Path, m.Kept)
	}
	return err
}

func (m *ReplaceManifest) Done(_ context.Context, t *Target) (bool, error) {
	now, err := sumOf(t, m.Path)
	if err != nil || now != sumOfData(m.Data) || !exists(t, m.Kept) || !m.shared().settled(t) {
		return false, err
	}
	return true, settleWritten(t, m.Path)
}
