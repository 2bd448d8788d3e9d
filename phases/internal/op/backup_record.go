package op

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// record is what etcdpod's own directory knows of a backup in the making. The process that makes
// the backup creates the lock beside it first, holds it, and removes it last: a record whose lock
// nobody holds is of a dead backup.
type record struct {
	Workspace
	Secret string `json:"secret"`
	// The directory's file system and inode: on another disk under its name there is nothing to do.
	FS  string `json:"fs"`
	Ino uint64 `json:"ino"`

	Owner    *int   `json:"owner,omitempty"`    // of what is made there; not known at first
	Snapshot uint64 `json:"snapshot,omitempty"` // inode; 0 while it is being written
	// The final name of the snapshot, and the inode of the sidecar: from when it gets its name.
	Path    string `json:"path,omitempty"`
	Sidecar uint64 `json:"sidecar,omitempty"`
	// Inodes of what was sealed, and of the signature.
	Stored    uint64 `json:"stored,omitempty"`
	Signature uint64 `json:"signature,omitempty"`

	in     string // directory of the record
	unlock func() error
}

const (
	recordPrefix = "backup-"
	lockSuffix   = ".lock"
)

func (r *record) file() string { return path.Join(r.in, recordPrefix+r.Run+".json") }

// lock is the file whose flock is held by the process that makes the backup.
func (r *record) lock() string { return path.Join(r.in, recordPrefix+r.Run+lockSuffix) }

// begin makes the record. A backup needs none: it must be possible where the disk of the record is
// full, or cannot be written to.
func (o *OpenBackup) begin(ctx context.Context, t *Target) error {
	r := &record{Workspace: Workspace{Dir: o.At, Run: o.Run, Plain: o.Plain}, Secret: o.secret, in: o.Records}
	var err error
	if r.FS, r.Ino, err = identity(t.Host.FS, o.held.Dir); err != nil {
		return err
	}
	if err := node.MkdirAll(t.Host.FS, path.Dir(o.Records), node.Mine(0o755)); err != nil {
		return err
	}
	if err := node.MkdirAll(t.Host.FS, o.Records, node.Mine(0o700)); err != nil {
		return err
	}
	if err := r.claim(ctx, t); err != nil {
		return fmt.Errorf("cannot record in %s that a backup is being made: %w", o.Records, err)
	}
	if err := writeJSON(t, r.file(), r); err != nil {
		return errors.Join(err, r.forget(t.Host.FS), r.unlock())
	}
	o.record = r
	return nil
}

func identity(fsys node.Reader, dir string) (string, uint64, error) {
	id, err := fsys.FilesystemID(dir)
	if err != nil {
		return "", 0, err
	}
	if dir, err = fsys.Resolve(dir); err != nil {
		return "", 0, err
	}
	st, err := fsys.Lstat(dir)
	return id, st.Ino, err
}

// claim makes the lock and takes it. In between, another backup may take this one for dead and
// remove the lock.
func (r *record) claim(ctx context.Context, t *Target) (err error) {
	for range 10 {
		err = t.Host.FS.Create(r.lock(), nil, node.Mine(0o600))
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if r.unlock, err = t.Host.FS.Lock(r.lock()); err == nil {
			if exists(t, r.lock()) {
				return syncDirs(t, r.lock())
			}
			_ = r.unlock()
		}
		if err := t.Host.Clock.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return err
}

// note changes the record, if there is one.
func (d *Draft) note(t *Target, change func(*record)) {
	if d.record == nil {
		return
	}
	change(d.record)
	if err := writeJSON(t, d.record.file(), d.record); err != nil {
		t.warn(finding.BackupUnrecorded, d.record.Dir,
			"%v; if this backup is interrupted, some of its leftovers are not removed", err)
	}
}

// LastBackup is where the last good backup of this node was kept.
type LastBackup struct {
	Dir string `json:"dir"` // empty when none is known
	// Of what is made there: on NFS root is somebody else. Not known of an earlier version's.
	Owner *int `json:"owner,omitempty"`
	// Where earlier ones were kept, the newest first: one may have been kept elsewhere for once.
	Before []LastBackup `json:"before,omitempty"`
}

// mostRemembered is how many directories are remembered beside the last.
const mostRemembered = 3

// then is the record once a backup was kept in a directory.
func (l LastBackup) then(dir string, owner *int) LastBackup {
	now := LastBackup{Dir: dir, Owner: owner}
	for _, one := range append([]LastBackup{{Dir: l.Dir, Owner: l.Owner}}, l.Before...) {
		if one.Dir != "" && one.Dir != dir && len(now.Before) < mostRemembered {
			now.Before = append(now.Before, LastBackup{Dir: one.Dir, Owner: one.Owner})
		}
	}
	return now
}

func lastBackupIn(records string) string { return path.Join(records, "last-backup.json") }

// remember notes where the backup is kept, so that others of this node are looked for there.
func (d *Draft) remember(t *Target) error {
	if d.record == nil {
		return nil
	}
	last, err := ReadLastBackup(t.Host.FS, d.record.in)
	if err != nil {
		last = LastBackup{} // it is written anew
	}
	return writeJSON(t, lastBackupIn(d.record.in), last.then(d.record.Dir, &d.owner))
}

// ReadLastBackup reads it; records is the directory of the records.
func ReadLastBackup(fsys node.Reader, records string) (last LastBackup, err error) {
	data, err := fsys.ReadFile(lastBackupIn(records))
	if errors.Is(err, fs.ErrNotExist) {
		return last, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &last)
	}
	if err != nil {
		return last, fmt.Errorf("cannot determine where the last backup was kept: %w", err)
	}
	return last, nil
}

// forget removes the record of a backup that leaves nothing behind.
func (d *Draft) forget(t *Target) error {
	if d.record == nil {
		return nil
	}
	return errors.Join(d.record.forget(t.Host.FS), d.record.unlock())
}

func (r *record) forget(fsys node.FS) error {
	if err := node.DropTemp(fsys, r.file()); err != nil {
		return err
	}
	for _, name := range []string{r.file(), r.lock()} {
		if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove %s: %w", name, err)
		}
	}
	if err := fsys.Sync(r.in); err != nil {
		return fmt.Errorf("cannot sync %s: %w", r.in, err)
	}
	return nil
}

// DeadBackup is what an interrupted backup left behind.
type DeadBackup struct {
	*record
	// The files still there, including the sidecar of a backup that was never completed.
	Files []string
	// Its directory is not there now, perhaps because a disk is not mounted.
	Away bool
}

// Record is the file that tells of it.
func (d DeadBackup) Record() string { return d.lock() }

// DeadBackups lists what interrupted backups left, without a backup that is running now. records is
// the directory of their records.
func DeadBackups(fsys node.Reader, records string) ([]DeadBackup, error) {
	names, err := fsys.ReadDir(records)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list interrupted backups: %w", err)
	}
	var dead []DeadBackup
	for _, name := range names {
		run, isLock := strings.CutSuffix(name, lockSuffix)
		run, ours := strings.CutPrefix(run, recordPrefix)
		if !isLock || !ours {
			continue
		}
		r := &record{Workspace: Workspace{Run: run}, in: records}
		unlock, err := r.seize(fsys)
		if err != nil {
			return nil, err
		}
		if unlock == nil {
			continue
		}
		dead = append(dead, r.left(fsys))
		if err := unlock(); err != nil {
			return nil, err
		}
	}
	return dead, nil
}

// seize locks a dead backup; unlock is nil when the backup is alive, or nothing is left of it. It
// checks that the lock still has its name: someone may have removed it in between, and a live
// backup may have made its own.
func (r *record) seize(fsys node.Reader) (unlock func() error, err error) {
	before, err := fsys.Lstat(r.lock())
	if err == nil {
		unlock, err = fsys.Lock(r.lock())
	}
	if errors.Is(err, node.ErrLocked) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot determine whether a backup is being made: %w", err)
	}
	if after, err := fsys.Lstat(r.lock()); err != nil || after.Ino != before.Ino || after.Dev != before.Dev {
		return nil, unlock()
	}
	if data, err := fsys.ReadFile(r.file()); err == nil {
		_ = json.Unmarshal(data, r) // it replaces itself whole; without it nothing was made yet
	}
	return unlock, nil
}

// found is a file that a dead backup left.
type found struct {
	name string
	ino  uint64 // 0: it was cut off before that was known
}

// left looks at what is there of a dead backup. Nothing but etcdpod's own record says where.
func (r *record) left(fsys node.Reader) DeadBackup {
	d := DeadBackup{record: r, Away: r.Dir != "" && !r.there(fsys, r.Dir)}
	if name := r.plainDraft(); name != "" {
		if _, err := fsys.Lstat(name); err == nil {
			d.Files = append(d.Files, name)
		}
	}
	if r.Dir == "" || d.Away {
		return d
	}
	for _, f := range r.made(fsys, r.Dir) {
		d.Files = append(d.Files, path.Join(r.Dir, f.name))
	}
	return d
}

// there says whether dir is the directory in which the backup was made.
func (r *record) there(fsys node.Reader, dir string) bool {
	if dir == "" {
		return false
	}
	id, ino, err := identity(fsys, dir)
	return err == nil && id == r.FS && ino == r.Ino
}

// made lists the files of the backup that are in dir, which may be the open directory.
func (r *record) made(fsys node.Reader, dir string) (all []found) {
	w := r.workspace()
	candidates := []found{{w.file(storedSuffix), r.Stored}, {w.file(signatureSuffix), 0},
		{w.file(sidecarSuffix), 0}, {w.file(markSuffix), 0}}
	if r.Plain == "" {
		candidates = append(candidates, found{w.file(snapshotSuffix), r.Snapshot})
	}
	switch base := path.Base(r.Path); {
	case r.Path == "":
	case r.Plain != "":
		// The sidecar gets its name last: without it nothing else counts.
		if st, err := fsys.Lstat(path.Join(dir, SidecarOf(base))); err != nil || st.Ino != r.Sidecar {
			candidates = append(candidates, found{base, r.Stored}, found{SignatureOf(base), r.Signature})
		}
	default:
		// The sidecar gets its name first: without its snapshot it tells of a backup that never
		// was.
		if _, err := fsys.Lstat(path.Join(dir, base)); errors.Is(err, fs.ErrNotExist) {
			candidates = append(candidates, found{SidecarOf(base), r.Sidecar})
		}
	}
	for _, f := range candidates {
		st, err := fsys.Lstat(path.Join(dir, f.name))
		if err != nil || !st.Mode.IsRegular() || r.Owner != nil && st.UID != *r.Owner || f.ino != 0 && st.Ino != f.ino {
			continue
		}
		all = append(all, f)
	}
	return all
}

func (r *record) workspace() Workspace {
	return Workspace{Run: r.Run, Plain: r.Plain, Draft: &Draft{secret: r.Secret}}
}

// plainDraft is the snapshot itself, where only what is sealed of it goes to the directory.
func (r *record) plainDraft() string {
	if r.Plain == "" {
		return ""
	}
	return r.workspace().Snapshot()
}

// Remove removes what the dead backup left, if it is still dead. On a disk that is not there now,
// or under another's name, nothing is touched, and the record stays.
func (d DeadBackup) Remove(fsys node.FS) (err error) {
	unlock, err := d.seize(fsys)
	if err != nil || unlock == nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if d.Dir == "" { // it was cut off before it had made anything
		return d.forget(fsys)
	}
	if name := d.plainDraft(); name != "" { // whatever has become of the directory
		if err := dropPlain(fsys, name); err != nil {
			return err
		}
	}
	held, err := fsys.Hold(d.Dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !d.there(fsys, held.Dir) {
		if err == nil {
			err = held.Close()
		} else {
			err = nil
		}
		return err
	}
	if err != nil {
		return fmt.Errorf("cannot look into %s: %w", d.Dir, err)
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	for _, f := range d.made(fsys, held.Dir) {
		if err := fsys.Remove(path.Join(held.Dir, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove %s: %w", path.Join(d.Dir, f.name), err)
		}
	}
	// The record names them: their removal must be durable before it goes.
	if err := fsys.Sync(held.Dir); err != nil {
		return fmt.Errorf("cannot sync %s: %w", d.Dir, err)
	}
	return d.forget(fsys)
}

func removeDead(t *Target, records string) error {
	dead, err := DeadBackups(t.Host.FS, records)
	if err != nil {
		return err
	}
	for _, d := range dead {
		err = errors.Join(err, d.Remove(t.Host.FS))
	}
	return err
}
