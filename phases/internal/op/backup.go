package op

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Workspace is where one backup is made: hidden files, named after the run, in the backup's
// own directory, so that one rename keeps the backup. The process that makes the backup
// creates the lock first, holds it, and removes it last: files beside a lock that nobody
// holds belong to a dead backup.
type Workspace struct {
	Dir string `json:"dir"`
	Run string `json:"run"`
}

const (
	workspacePrefix = ".etcdpod-"
	lockSuffix      = ".lock"
)

func (w Workspace) name(suffix string) string { return path.Join(w.Dir, workspacePrefix+w.Run+suffix) }

// Lock is the file whose flock is held by the process that makes the backup.
func (w Workspace) Lock() string { return w.name(lockSuffix) }

// Snapshot is the data under its temporary name.
func (w Workspace) Snapshot() string { return w.name(".db") }

// draft is the sidecar while it is incomplete.
func (w Workspace) draft() string { return w.name(".json") }

// sidecar is the complete sidecar under its temporary name.
func (w Workspace) sidecar() string { return w.name(".sidecar") }

// files lists the temporary names, without the lock.
func (w Workspace) files() []string { return []string{w.Snapshot(), w.sidecar(), w.draft()} }

// OpenBackup makes the workspace of a backup, and removes those of dead backups from the directory.
type OpenBackup struct {
	Workspace
	Sidecar Sidecar `json:"sidecar"` // what is known in advance
	// What a person should know about what will not be in it.
	Said []string `json:"said,omitempty"`

	unlock func() error // held until the process ends or the backup is kept
}

func (o *OpenBackup) String() string {
	return fmt.Sprintf("claim a place in %s; remove what backups that were cut off may have left there", o.Dir)
}

func (o *OpenBackup) Do(ctx context.Context, t *Target) error {
	for _, said := range o.Said {
		t.report("%s", said)
	}
	dead, err := DeadBackups(t.Host.FS, o.Dir)
	if err != nil {
		return err
	}
	for _, d := range dead {
		if err := d.Remove(t.Host.FS); err != nil {
			return err
		}
	}
	if o.unlock, err = o.claim(ctx, t); err != nil {
		return err
	}
	if o.Sidecar.TakenAt, err = o.freeSecond(ctx, t); err != nil {
		return err
	}
	return writeJSON(t, o.draft(), o.Sidecar)
}

// claim makes the lock and takes it. In between, another backup may take this one for dead
// and remove the lock.
func (o *OpenBackup) claim(ctx context.Context, t *Target) (unlock func() error, err error) {
	for range 10 {
		err = t.Host.FS.Create(o.Lock(), nil, node.Mine(0o600))
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot make a backup in %s: %w", o.Dir, err)
		}
		if unlock, err = t.Host.FS.Lock(o.Lock()); err == nil {
			if exists(t, o.Lock()) {
				return unlock, syncDirs(t, o.Lock())
			}
			_ = unlock()
		}
		if err := t.Host.Clock.Sleep(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("cannot make a backup in %s: %w", o.Dir, err)
}

// freeSecond returns the time, after waiting for a second in which this node took no other backup.
// Names differ by second and revision only, and the revision of an idle cluster stays the same.
func (o *OpenBackup) freeSecond(ctx context.Context, t *Target) (time.Time, error) {
	for {
		names, err := t.Host.FS.ReadDir(o.Dir)
		if err != nil {
			return time.Time{}, fmt.Errorf("cannot list the backups: %w", err)
		}
		now := t.Host.Clock.Now().UTC()
		if !takenIn(names, o.Sidecar.Node, now) {
			return now, nil
		}
		if err := t.Host.Clock.Sleep(ctx, now.Truncate(time.Second).Add(time.Second).Sub(now)); err != nil {
			return time.Time{}, err
		}
	}
}

func (o *OpenBackup) Undo(_ context.Context, t *Target) error {
	if o.unlock == nil { // the claim failed: files with this name may not be ours
		return nil
	}
	return errors.Join(o.remove(t.Host.FS), o.unlock())
}

func (o *OpenBackup) Done(context.Context, *Target) (bool, error) { return false, nil }

// remove removes the temporary files, and the lock after them.
func (w Workspace) remove(fsys node.FS) error {
	if err := node.DropTemp(fsys, w.draft()); err != nil {
		return err
	}
	for _, name := range append(w.files(), w.Lock()) {
		if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove %s: %w", name, err)
		}
	}
	if err := fsys.Sync(w.Dir); err != nil {
		return fmt.Errorf("cannot make %s durable: %w", w.Dir, err)
	}
	return nil
}

// SaveSnapshot takes a snapshot of a running etcd, with the SHA-256 that etcd appends. ProveBackup
// checks the file against it.
type SaveSnapshot struct {
	Workspace
	Access Access `json:"access"`
}

func (s *SaveSnapshot) String() string {
	return fmt.Sprintf("take a snapshot of the etcd at %s into %s", s.Access.Endpoints[0], s.Snapshot())
}

func (s *SaveSnapshot) Do(ctx context.Context, t *Target) error {
	saved, err := t.Etcd.Save(ctx, s.Access, s.Snapshot(), t.progress)
	if err != nil {
		return err
	}
	// Until the snapshot is proven, sha256 is the one that etcd sent.
	return s.complete(t, func(d *SidecarFile) error {
		d.SHA256, d.SizeBytes, d.EtcdVersion, d.ClusterID = saved.Trailer,
			saved.SizeBytes, saved.EtcdVersion, fmt.Sprintf("%x", saved.ClusterID)
		return nil
	})
}

func (s *SaveSnapshot) Undo(_ context.Context, t *Target) error { return remove(t, s.Snapshot()) }

func (s *SaveSnapshot) Done(context.Context, *Target) (bool, error) { return false, nil }

// complete changes the draft.
func (w Workspace) complete(t *Target, change func(*SidecarFile) error) error {
	var d SidecarFile
	if err := readJSON(t, w.draft(), &d); err != nil {
		return err
	}
	if err := change(&d); err != nil {
		return err
	}
	return writeJSON(t, w.draft(), d)
}

// ProveBackup checks everything saved, as it is on disk, and records what it holds.
type ProveBackup struct {
	repeated
	Workspace
}

func (p *ProveBackup) String() string { return "prove the snapshot " + p.Snapshot() }

func (p *ProveBackup) Do(ctx context.Context, t *Target) error {
	c, err := t.Etcd.Examine(ctx, p.Snapshot(), t.progress)
	if err != nil {
		return err
	}
	return p.complete(t, func(d *SidecarFile) error {
		if d.SizeBytes != 0 && d.SizeBytes != c.SizeBytes {
			return fmt.Errorf("the disk does not give back what was written to %s: %d bytes, and not %d",
				p.Snapshot(), c.SizeBytes, d.SizeBytes)
		}
		if d.SHA256 != "" && d.SHA256 != c.Trailer {
			return fmt.Errorf("the disk does not give back what was written to %s: the SHA-256 at its end is %s, and "+
				"etcd sent %s", p.Snapshot(), c.Trailer, d.SHA256)
		}
		d.SHA256, d.SizeBytes, d.Revision, d.Keys = c.SHA256, c.SizeBytes, c.Revision, c.Keys
		d.CompactRevision, d.HashKV, d.StorageVersion, d.HashSteps = c.CompactRevision,
			c.HashKV, c.StorageVersion, c.HashSteps
		d.Members = c.Members
		d.Seconds = t.Host.Clock.Now().Sub(d.TakenAt).Seconds()
		return nil
	})
}

// KeepBackup renames the proven snapshot. From that moment the backup exists: its
// sidecar is already there.
type KeepBackup struct {
	Workspace
	File string `json:"file,omitempty"` // its name; empty: etcd-<node>-<UTC>-r<revision>.db in Dir
	Keep int    `json:"keep,omitempty"` // how many of this node's backups stay in Dir; 0: all

	Kept    string `json:"kept,omitempty"`    // its final name
	Sidecar string `json:"sidecar,omitempty"` // the sidecar's final name
}

func (k *KeepBackup) String() string {
	if k.File != "" {
		return fmt.Sprintf("keep it as %s, with %s", k.File, SidecarOf(k.File))
	}
	text := fmt.Sprintf("keep it in %s as etcd-<node>-<UTC>-r<revision>.db, with its sidecar", k.Dir)
	if k.Keep > 0 {
		text += fmt.Sprintf("; remove this node's oldest backups there, so that %d are left", k.Keep)
	}
	return text
}

func (k *KeepBackup) Do(_ context.Context, t *Target) error {
	var s SidecarFile
	if err := readJSON(t, k.draft(), &s); err != nil {
		return err
	}
	if s.Path = k.File; s.Path == "" {
		s.Path = path.Join(k.Dir, BackupName(s.Sidecar))
	}
	// Cleanup after a crash learns here which sidecar belonged to this backup.
	if err := writeJSON(t, k.draft(), s); err != nil {
		return err
	}
	if err := k.keep(t, s); err != nil {
		return fmt.Errorf("cannot keep the backup as %s: %w", s.Path, err)
	}
	// The backup exists: a failure from here on must not remove it.
	if k.Keep > 0 {
		if err := rotate(t, s.Sidecar, k.Keep); err != nil {
			t.report("the backup is good, but older ones could not be removed: %v", err)
		}
	}
	if err := k.remove(t.Host.FS); err != nil {
		t.report("the backup is good, but %v", err)
	}
	return nil
}

// keep puts sidecar and snapshot in place, and never overwrites a file.
func (k *KeepBackup) keep(t *Target, s SidecarFile) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := t.Host.FS.Create(k.sidecar(), append(data, '\n'), node.Mine(0o600)); err != nil {
		return err
	}
	for _, name := range []string{k.sidecar(), k.Snapshot()} {
		if err := t.Host.FS.Sync(name); err != nil {
			return err
		}
	}
	if err := t.Host.FS.Rename(k.sidecar(), SidecarOf(s.Path)); err != nil {
		return err
	}
	k.Sidecar = SidecarOf(s.Path)
	if err := t.Host.FS.Sync(k.Dir); err != nil {
		return err
	}
	if err := t.Host.FS.Rename(k.Snapshot(), s.Path); err != nil {
		return err
	}
	k.Kept = s.Path
	return t.Host.FS.Sync(k.Dir)
}

// Undo removes what this operation put in place.
func (k *KeepBackup) Undo(_ context.Context, t *Target) error {
	for _, name := range []string{k.Kept, k.Sidecar, k.sidecar()} {
		if name == "" {
			continue
		}
		if err := remove(t, name); err != nil {
			return err
		}
	}
	return nil
}

func (k *KeepBackup) Done(context.Context, *Target) (bool, error) { return k.Kept != "", nil }
