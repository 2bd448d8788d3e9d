package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Entry is one backup as `backups` lists it.
type Entry struct {
	Sidecar
	Whole bool   `json:"whole"`          // the file has the length that the sidecar says
	Note  string `json:"note,omitempty"` // what is odd: no sidecar, another length
	// Of the finding that the note is.
	Code finding.Code `json:"code,omitempty"`
}

// List lists the backups in a directory (host path; empty: [DefaultDir]), newest first. A file is
// one if it ends in .db or has a sidecar. Odd ones are listed with a note. It reads only names,
// lengths and sidecars.
func List(_ context.Context, n *observe.Node, dir string) ([]Entry, error) {
	asked := dir != ""
	if !asked {
		dir = DefaultDir
	}
	names, err := n.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return []Entry{}, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, engine.WithHint(fmt.Errorf("cannot list the backups: there is no directory %s", dir),
			"name the directory that the backups are in; without --dir it is "+DefaultDir)
	}
	if err != nil {
		return nil, engine.RefuseKind(fmt.Errorf("cannot list the backups: %w", err))
	}
	var owner *int
	if last, err := op.ReadLastBackup(n.FS, journal.Home); err == nil && last.Dir != "" &&
		node.Resolved(n.FS, dir) == node.Resolved(n.FS, last.Dir) {
		owner = last.Owner
	}
	entries := []Entry{}
	for _, name := range backupNames(names) {
		entries = append(entries, backupEntry(n, path.Join(dir, name), owner))
	}
	slices.SortStableFunc(entries, func(a, b Entry) int {
		return cmp.Or(b.TakenAt.Compare(a.TakenAt), strings.Compare(b.Path, a.Path))
	})
	return entries, nil
}

// LastDir is the directory in which the last good backup of this node was kept (host path), as
// [List] takes it: empty for [DefaultDir], and when none is known.
func LastDir(n *observe.Node) (string, error) {
	last, err := op.ReadLastBackup(n.FS, journal.Home)
	if last.Dir == DefaultDir {
		last.Dir = ""
	}
	return last.Dir, err
}

// backupNames picks the snapshots among the names of a directory, including those of which only the
// sidecar is left.
func backupNames(names []string) []string {
	var snapshots []string
	for _, name := range names {
		snapshot, sidecar := strings.CutSuffix(name, ".json")
		switch {
		case strings.HasPrefix(name, "."):
		case strings.HasSuffix(name, ".db"), sidecar &&
			(strings.HasSuffix(snapshot, ".db") || slices.Contains(names, snapshot)):
			snapshots = append(snapshots, snapshot)
		}
	}
	slices.Sort(snapshots)
	return slices.Compact(snapshots)
}

// backupEntry describes one backup; owner is who makes them there, if that is known.
func backupEntry(n *observe.Node, file string, owner *int) Entry {
	e := Entry{Sidecar: Sidecar{Members: []observe.Member{}, Fingerprints: map[string]string{}}}
	st, missing := n.FS.Lstat(file)
	s, described, err := op.ReadSidecar(n.FS, op.SidecarOf(file))
	if err == nil {
		e.Sidecar = s.Sidecar
	}
	e.Path = file // the directory may have been moved since
	switch {
	case missing != nil:
		e.odd(finding.SnapshotMissing, "only its sidecar %s exists", op.SidecarOf(file))
	case !st.Mode.IsRegular():
		e.odd(finding.SnapshotIrregular, "not a regular file")
	case errors.Is(err, fs.ErrNotExist):
		e.odd(finding.SidecarMissing, "no sidecar describes it; `etcdpod verify` shows what it holds")
	case err != nil:
		e.odd(finding.SidecarUnreadable, "cannot read the sidecar %s: %v", op.SidecarOf(file), err)
	case st.Size != s.SizeBytes:
		e.odd(finding.SnapshotLength, "it has %d bytes, but its sidecar says %d", st.Size, s.SizeBytes)
	default:
		e.Whole = true
		if foreign(st, owner) || foreign(described, owner) {
			e.odd(finding.BackupForeign, "others may have written it: what its sidecar says is not relied on")
		}
	}
	if err != nil && missing == nil {
		e.TakenAt, e.SizeBytes = st.ModTime.UTC(), st.Size
	}
	return e
}

// foreign says whether others can have written a file.
func foreign(st node.Stat, owner *int) bool {
	if owner != nil && st.UID == *owner {
		st.UID = os.Geteuid()
	}
	return st.Foreign()
}

func (e *Entry) odd(code finding.Code, format string, args ...any) {
	f := finding.New(code, e.Path, format, args...)
	e.Code, e.Note = f.Code, f.Text
}
