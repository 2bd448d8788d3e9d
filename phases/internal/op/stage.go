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

// MakeDirectory makes one directory; its parent must exist.
type MakeDirectory struct {
	Path string    `json:"path"`
	Attr node.Attr `json:"attr"`
}

func (m *MakeDirectory) String() string { return "make the directory " + m.Path }

func (m *MakeDirectory) Do(_ context.Context, t *Target) error {
	if err := t.Host.FS.Mkdir(m.Path, m.Attr); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make the directory %s: %w", m.Path, err)
	}
	return syncDirs(t, m.Path)
}

// Undo leaves a directory that someone else has put something into.
func (m *MakeDirectory) Undo(_ context.Context, t *Target) error {
	names, err := t.Host.FS.ReadDir(m.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if !exists(t, path.Dir(m.Path)) { // someone has removed more than this
			return nil
		}
		return syncDirs(t, m.Path)
	}
	if node.IsWrongKind(err) { // someone else's file is there, or on the way there
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", m.Path, err)
	}
	if len(names) > 0 {
		t.warn(finding.LeftInPlace, m.Path, "%s is left: it is not empty", m.Path)
		return nil
	}
	return remove(t, m.Path)
}

func (m *MakeDirectory) Done(_ context.Context, t *Target) (bool, error) {
	if !exists(t, m.Path) {
		return false, nil
	}
	return true, syncDirs(t, m.Path)
}

func (m *MakeDirectory) FilesOnly() bool { return true }

// SnapshotDataDir makes a snapshot file from a stopped member's data, which it only reads.
type SnapshotDataDir struct {
	Dir      string `json:"dir"`
	WALDir   string `json:"walDir,omitempty"`
	Snapshot string `json:"snapshot"` // in the run's folder
	// UpToHole takes what stands before raft entries that are missing; otherwise those are an
	// error.
	UpToHole bool `json:"upToHole,omitempty"`
	// Copied says what the data may lack because it may be a copy; empty: it is none.
	Copied string `json:"copied,omitempty"`

	backup *Workspace // of the backup that it is for, where it is in no run's folder
}

// SnapshotDataDir makes the backup's snapshot from a stopped member's data; its sidecar says what
// that may lack.
func (w Workspace) SnapshotDataDir(from SnapshotDataDir) *SnapshotDataDir {
	from.Snapshot, from.backup = w.Snapshot(), &w
	return &from
}

func (s *SnapshotDataDir) String() string {
	return fmt.Sprintf("make the snapshot %s from the data in %s", s.Snapshot, s.Dir)
}

func (s *SnapshotDataDir) Do(ctx context.Context, t *Target) error {
	to := s.Snapshot
	if s.backup != nil {
		to = s.backup.plain()
	} else if err := remove(t, to); err != nil { // left by an interrupted attempt
		return err
	}
	from := *s
	from.Snapshot = to
	missing, err := t.Etcd.SnapshotDataDir(ctx, from, t.progress)
	if err == nil && s.Copied != "" {
		missing = append(missing, s.Copied)
	}
	for _, m := range missing {
		t.warn(finding.BackupIncomplete, s.Dir, "%s", m)
	}
	switch {
	case s.backup == nil:
		return err
	case err != nil:
		return s.backup.readable(err)
	}
	s.backup.sidecar.Caveats, s.backup.sidecar.Source = missing, s.Dir
	return s.backup.saved(t)
}

func (s *SnapshotDataDir) Undo(_ context.Context, t *Target) error {
	if s.backup != nil {
		return s.backup.dropSnapshot(t)
	}
	return remove(t, s.Snapshot)
}

func (s *SnapshotDataDir) Done(context.Context, *Target) (bool, error) { return false, nil }

// ProveSnapshot checks all of a snapshot that this run made, and records the proof.
type ProveSnapshot struct {
	Snapshot string `json:"snapshot"`
	Proof    string `json:"proof"` // a file in the run's folder
}

func (p *ProveSnapshot) String() string { return "verify the snapshot " + p.Snapshot }

func (p *ProveSnapshot) Do(ctx context.Context, t *Target) error {
	proof, err := t.Etcd.Prove(ctx, p.Snapshot, false, t.progress)
	if err != nil {
		return err
	}
	return writeJSON(t, p.Proof, proof)
}

func (p *ProveSnapshot) Undo(_ context.Context, t *Target) error { return remove(t, p.Proof) }

func (p *ProveSnapshot) Done(_ context.Context, t *Target) (bool, error) {
	if !exists(t, p.Proof) {
		return false, nil
	}
	return true, syncDirs(t, p.Proof)
}

// StageData makes the new data beside the old: Dir/member, and WALDir where the
// WAL lives elsewhere.
type StageData struct {
	Staging Staging `json:"staging"`
	Dir     string  `json:"dir"`              // does not exist yet
	WALDir  string  `json:"walDir,omitempty"` // does not exist yet
	// Receipt is written last: it says that staging is complete, and what it made.
	Receipt string    `json:"receipt"`
	Attr    node.Attr `json:"attr"` // of the directories; files get its owner and label, and 0600
}

// Marker is the file in a staged member directory that tells it from the user's; it holds the name
// of the receipt. etcd reads only snap and wal.
const Marker = ".etcdpod-staged"

func (s *StageData) String() string {
	return fmt.Sprintf("stage %s in %s", s.Staging.Snapshot, s.Dir)
}

func (s *StageData) Do(ctx context.Context, t *Target) error {
	if err := s.Undo(ctx, t); err != nil { // left by an interrupted attempt
		return err
	}
	staging := s.Staging
	if staging.ProofFile != "" {
		if err := readJSON(t, staging.ProofFile, &staging.Proof); err != nil {
			return err
		}
	}
	staged, err := t.Etcd.Stage(ctx, staging, s.Dir, s.WALDir, t.progress)
	if err != nil {
		return err
	}
	if staging.Compare {
		if staged.HashKV, err = t.Etcd.HashStaged(ctx, path.Join(s.Dir, "member/snap/db"), t.progress); err != nil {
			return fmt.Errorf("the staged data is bad: %w", err)
		}
	}
	marker := path.Join(s.Dir, "member", Marker)
	if err := t.Host.FS.Create(marker, []byte(s.Receipt), node.Mine(0o600)); err != nil {
		return fmt.Errorf("cannot mark the staged data: %w", err)
	}
	for _, dir := range s.trees() {
		if err := s.finish(t, dir); err != nil {
			return fmt.Errorf("cannot sync the staged data %s: %w", dir, err)
		}
	}
	return writeJSON(t, s.Receipt, staged)
}

func (s *StageData) trees() []string {
	if s.WALDir == "" {
		return []string{s.Dir}
	}
	return []string{s.Dir, s.WALDir}
}

// finish gives a staged tree the owner, modes and label of the data that it replaces, and
// syncs it with its parent.
func (s *StageData) finish(t *Target, dir string) error {
	if err := s.own(t, dir); err != nil {
		return err
	}
	if err := node.SyncTree(t.Host.FS, dir); err != nil {
		return err
	}
	return syncDirs(t, dir)
}

func (s *StageData) own(t *Target, name string) error {
	st, err := t.Host.FS.Lstat(name)
	if err != nil {
		return err
	}
	attr := s.Attr
	if !st.Mode.IsDir() {
		attr.Mode = 0o600
		return t.Host.FS.SetAttr(name, attr)
	}
	names, err := t.Host.FS.ReadDir(name)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := s.own(t, path.Join(name, n)); err != nil {
			return err
		}
	}
	return t.Host.FS.SetAttr(name, attr)
}

// Undo removes only what was staged: once there is a receipt, data without the
// marker is the user's.
func (s *StageData) Undo(ctx context.Context, t *Target) error {
	if exists(t, s.Receipt) {
		if member := path.Join(s.Dir, "member"); exists(t, member) && marker(t, member) != s.Receipt {
			return fmt.Errorf("cannot remove the staged data %s: it is not what this run staged", s.Dir)
		}
		if kept, err := s.keep(ctx, t); kept || err != nil {
			return err
		}
	}
	// Sync even if an earlier attempt removed it: that may not be durable.
	if err := remove(t, s.Receipt); err != nil {
		return err
	}
	for _, dir := range s.trees() {
		if err := node.RemoveTree(t.Host.FS, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove the staged data %s: %w", dir, err)
		}
		if err := syncDirs(t, dir); err != nil {
			return err
		}
	}
	return nil
}

// keep says whether the data stays where it is: it was in place meanwhile, and clients have written
// to it, or nothing tells. With its receipt, so that another restore knows its revision.
func (s *StageData) keep(ctx context.Context, t *Target) (bool, error) {
	member := path.Join(s.Dir, "member")
	if s.WALDir != "" {
		member = s.WALDir
	}
	if !exists(t, member) {
		return false, nil
	}
	writes, err := written(ctx, t, member)
	if writes == 0 && err == nil {
		return false, nil
	}
	return true, syncDirs(t, s.Dir)
}

// marker returns the receipt of the run that staged a member directory; empty for
// data that no run staged.
func marker(t *Target, member string) string {
	data, _, err := read(t, path.Join(member, Marker))
	if err != nil {
		return ""
	}
	return string(data)
}

func (s *StageData) Done(_ context.Context, t *Target) (bool, error) {
	if !exists(t, s.Receipt) {
		return false, nil
	}
	return true, syncDirs(t, s.Receipt)
}

// receipt reads the result of staging.
func receipt(t *Target, name string) (staged Staged, err error) {
	err = readJSON(t, name, &staged)
	return staged, err
}
