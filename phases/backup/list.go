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
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Entry is one backup as `backups` lists it.
type Entry struct {
	Sidecar
	Whole bool   `json:"whole"`          // the file has the length that the sidecar says
	Note  string `json:"note,omitempty"` // what is odd: no sidecar, another length
	// Of a sealed one: whether the signature over its sidecar is good, and of whom.
	Signature string `json:"signature,omitempty" values:"trusted,untrusted,forged,missing"`
	SignedBy  string `json:"signedBy,omitempty"`
	// Of the finding that the note is.
	Code finding.Code `json:"code,omitempty"`
}

// Listing is what was found, and where it was looked for.
type Listing struct {
	Dirs    []string // host paths
	Gone    bool     // the directory of the last one does not exist
	Entries []Entry  // newest first
}

// In names the directories, as in "there is no backup in …".
func (l Listing) In() string { return strings.Join(l.Dirs, " or ") }

// List lists the backups in a directory (host path). Without one it looks where the last good
// backups of this node were kept, and in [DefaultDir]. A file is a backup if it ends in .db or has
// a sidecar. Odd ones are listed with a note. It reads only names, lengths and sidecars. An error
// comes with what could be listed in spite of it.
func List(_ context.Context, n *observe.Node, dir string) (Listing, error) {
	l := Listing{Dirs: []string{dir}, Entries: []Entry{}}
	last, err := op.ReadLastBackup(n.FS, journal.Home)
	kept := append([]op.LastBackup{last}, last.Before...)
	if dir != "" {
		err = nil // it only tells who made what is there
	} else {
		l.Dirs = keptIn(n.FS, kept)
	}
	if err != nil {
		err = engine.WithHint(engine.RefuseKind(err),
			"give the directory with the backups, --dir DIR; the default is "+DefaultDir)
	}
	trust, untold := trusted(n.FS, "")
	for _, in := range l.Dirs {
		var owner *int
		for _, one := range kept {
			if owner == nil && one.Dir != "" && node.Resolved(n.FS, in) == node.Resolved(n.FS, one.Dir) {
				owner = one.Owner
			}
		}
		names, failed := n.FS.ReadDir(in)
		for _, name := range backupNames(names) {
			l.Entries = append(l.Entries, backupEntry(n, path.Join(in, name), owner, trust))
		}
		// The default directory is made by the first backup that goes there.
		if failed != nil && !(errors.Is(failed, fs.ErrNotExist) && in == DefaultDir && dir == "") {
			err = cmp.Or(err, cannotList(n.FS, in, dir != "", failed))
			l.Gone = dir == "" && errors.Is(failed, fs.ErrNotExist)
		}
	}
	if untold != nil && slices.ContainsFunc(l.Entries, func(e Entry) bool { return e.Sealed != nil }) {
		err = cmp.Or(err, untold)
	}
	slices.SortStableFunc(l.Entries, func(a, b Entry) int {
		return cmp.Or(b.TakenAt.Compare(a.TakenAt), strings.Compare(b.Path, a.Path))
	})
	return l, err
}

// keptIn are the directories to look in, each once: that of the last backup, those of earlier ones
// that exist, and the default.
func keptIn(fsys node.Reader, kept []op.LastBackup) (dirs []string) {
	seen := map[string]bool{}
	for i, one := range append(slices.Clone(kept), op.LastBackup{Dir: DefaultDir}) {
		earlier := i > 0 && i < len(kept)
		real := node.Resolved(fsys, one.Dir)
		if one.Dir == "" || seen[real] || earlier && !node.IsDir(fsys, one.Dir) {
			continue
		}
		if seen[real] = true; real == node.Resolved(fsys, DefaultDir) {
			one.Dir = DefaultDir
		}
		dirs = append(dirs, one.Dir)
	}
	return dirs
}

// cannotList says why, and where else to look; asked: somebody gave this directory.
func cannotList(fsys node.Reader, dir string, asked bool, err error) error {
	known, hint := ", where the last good backup was kept", "mount it; or look elsewhere with --dir, for example in "+
		DefaultDir+", the default"
	if asked {
		known, hint = "", "give the directory with the backups; without --dir, etcdpod looks where the last good "+
			"one was kept, and in "+DefaultDir
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return engine.WithHint(fmt.Errorf("cannot list the backups: there is no directory %s%s", dir, known), hint)
	case node.IsWrongKind(err):
		// If it is not there, something above it is no directory.
		if _, err := fsys.Lstat(dir); asked && err == nil {
			hint = "give the directory that it is in: --dir " + path.Dir(dir)
		}
		return engine.Refuse(hint, "cannot list the backups: %s is not a directory", dir)
	}
	return fmt.Errorf("cannot list the backups: %w", err)
}

// backupNames picks the snapshots among the names of a directory, including those of which only the
// sidecar is left.
func backupNames(names []string) []string {
	var snapshots []string
	for _, name := range names {
		snapshot, sidecar := strings.CutSuffix(name, ".json")
		switch {
		case strings.HasPrefix(name, "."):
		case op.IsBackup(name), sidecar && (op.IsBackup(snapshot) || slices.Contains(names, snapshot)):
			snapshots = append(snapshots, snapshot)
		}
	}
	slices.Sort(snapshots)
	return slices.Compact(snapshots)
}

// backupEntry describes one backup; owner is who makes them there, if that is known.
func backupEntry(n *observe.Node, file string, owner *int, trust []sealed.Trusted) Entry {
	e := Entry{Sidecar: Sidecar{Members: []observe.Member{}, Fingerprints: map[string]string{}}}
	st, missing := n.FS.Lstat(file)
	data, s, described, err := op.ReadSidecarBytes(n.FS, op.SidecarOf(file))
	if err == nil {
		e.Sidecar = s.Sidecar
	}
	var signed Signature
	if e.Sealed != nil {
		signed = signature(n.FS, file, data, trust)
		e.Signature, e.SignedBy = signed.State, signed.By
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
	case st.Size != s.StoredBytes():
		e.odd(finding.SnapshotLength, "it has %d bytes, but its sidecar says %d", st.Size, s.StoredBytes())
	case s.Sealed == nil && isSealed(file):
		e.odd(finding.SidecarUnreadable, "its sidecar %s is that of a plain snapshot", op.SidecarOf(file))
	case e.Sealed != nil && e.Sealed.Name != path.Base(file):
		e.odd(finding.SidecarUnreadable, "its sidecar is that of %s", e.Sealed.Name)
	case e.Sealed != nil && signed.State != SignedTrusted && (signed.State != SignedNot || e.Sealed.Signer != ""):
		e.odd(finding.BackupUntrusted, "%s", signed.Reason)
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
