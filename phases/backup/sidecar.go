package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// SidecarOf reads the sidecar beside a snapshot; nil when there is none.
func SidecarOf(fsys node.Reader, snapshot string) (*op.SidecarFile, error) {
	s, err := sidecarBeside(fsys, snapshot)
	if s != nil || err != nil {
		return s, err
	}
	target, err := fsys.Resolve(snapshot) // latest.db is often a link
	if err != nil || target == snapshot {
		return nil, nil
	}
	return sidecarBeside(fsys, target)
}

// sidecarBeside follows a link: the person named the snapshot. In a directory that is only listed,
// links are not followed.
func sidecarBeside(fsys node.Reader, snapshot string) (*op.SidecarFile, error) {
	file, err := fsys.Resolve(op.SidecarOf(snapshot))
	if err == nil {
		return plainSidecar(fsys, file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return nil, fmt.Errorf("cannot read the sidecar %s.json: %w", snapshot, err)
}

// plainSidecar reads a sidecar, never through a link; nil when there is none.
func plainSidecar(fsys node.Reader, file string) (*op.SidecarFile, error) {
	s, _, err := op.ReadSidecar(fsys, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the sidecar %s: %w", file, err)
	}
	return &s, nil
}

// HomeDir is etcdpod's own directory; host path.
const HomeDir = journal.Home

// DefaultDir is where backups go by default; host path, mode 0700.
const DefaultDir = journal.BackupsDir

// Sidecar is the JSON file beside a backup, FILE.json, mode 0600. The names are stable.
type Sidecar = op.Sidecar

// Sealed is what it says of a backup that is more than the snapshot itself.
type Sealed = op.Sealed

// StepsIn lets a snapshot be hashed on two cores, if its sidecar says how.
func StepsIn(s *op.SidecarFile) snapfile.Steps {
	if s == nil {
		return nil
	}
	return s.HashSteps
}

// Sidecars returns the readable sidecars in a directory that nobody but root or this user can have
// written; of the others, the names.
func Sidecars(n *observe.Node, dir string) (own []Sidecar, foreign []string) {
	names, err := n.FS.ReadDir(dir)
	if err != nil {
		return nil, nil
	}
	for _, name := range names {
		snapshot, ok := strings.CutSuffix(name, ".json")
		if !ok || !op.IsBackup(snapshot) {
			continue
		}
		s, st, err := op.ReadSidecar(n.FS, path.Join(dir, name))
		switch {
		case err != nil:
		case st.Foreign():
			foreign = append(foreign, path.Join(dir, name))
		default:
			s.Path = path.Join(dir, snapshot)
			own = append(own, s.Sidecar)
		}
	}
	return own, foreign
}

// WithoutSidecar is what a person can do about a snapshot that is good but for its sidecar.
func WithoutSidecar(snapshot string) string {
	return fmt.Sprintf("if you are sure that this is the right snapshot, move %s away", op.SidecarOf(snapshot))
}

// BareHint is what a person can do with a file that may be a member's db, which has no SHA-256;
// real is its path on this machine.
func BareHint(file, real string) string {
	if snapfile.InUse(real) {
		return "an etcd runs on that file, and writes to it: `etcdpod backup` takes a snapshot"
	}
	return fmt.Sprintf("if it is a copy of member/snap/db, restore it with `etcdpod restore --skip-hash-check %s`: "+
		"its structure is still checked. If it was taken as a snapshot, it is truncated: copy it again", file)
}

// Against returns a [*snapfile.Bad] if a good snapshot is not the one that its sidecar describes,
// or the sidecar could not be read; quick compares only what a quick check knows.
func Against(r *snapfile.Report, s *op.SidecarFile, unread error, quick bool) error {
	reason := against(r, s, quick)
	if unread != nil {
		reason = unread.Error()
	}
	if reason == "" {
		return nil
	}
	return &snapfile.Bad{Check: CheckSidecar, Reason: reason}
}
