package op

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Workspace is where one backup is made: hidden files in the backup's own directory, so that one
// rename keeps the backup. Others may be able to write to that directory, so nothing is read from
// there to decide what to do: that is in memory, and in a record in etcdpod's own directory, which
// tells the next backup what to remove if this one is cut off.
type Workspace struct {
	Dir string `json:"dir"`
	Run string `json:"run"`
	// Plain is etcdpod's own directory, 0700, in which the snapshot is made where only what is
	// sealed of it goes to Dir; empty: the snapshot itself is the backup.
	Plain string `json:"plain,omitempty"`

	*Draft `json:"-"` // the same for all operations of one backup
}

const workspacePrefix = ".etcdpod-"

func (w Workspace) name(suffix string) string { return path.Join(w.Dir, w.file(suffix)) }

// file is a temporary name without its directory. Nobody can know it beforehand.
func (w Workspace) file(suffix string) string {
	if w.Draft == nil {
		return workspacePrefix + w.Run + suffix
	}
	return workspacePrefix + w.Run + "-" + w.secret + suffix
}

// Snapshot is the data under its temporary name.
func (w Workspace) Snapshot() string {
	if w.Plain != "" {
		return path.Join(w.Plain, w.file(snapshotSuffix))
	}
	return w.name(snapshotSuffix)
}

const (
	snapshotSuffix = ".db"
	sidecarSuffix  = ".sidecar"
	markSuffix     = ".mark" // empty; shows who owns what is made there
)

func suffixes() []string {
	return []string{snapshotSuffix, storedSuffix, signatureSuffix, sidecarSuffix, markSuffix}
}

// Draft is a backup in the making: what its operations know of it together.
type Draft struct {
	sidecar SidecarFile
	secret  string // in temporary names
	held    *node.Held
	record  *record // nil: it could not be made
	owner   int     // of what is made in the directory
	// Inodes of the snapshot, of its sidecar, and of what was sealed and its signature; 0 until
	// they are known.
	snapshot, described, stored, signed uint64
	sealing                             Sealing
	shipped                             []Shipped
}

// NewDraft begins a backup.
func NewDraft() *Draft { return &Draft{secret: rand.Text()} }

// Made is the sidecar of the backup that was kept.
func (d *Draft) Made() Sidecar { return d.sidecar.Sidecar }

// at is where a file of the directory is reached, whatever the directory's name leads to by now.
func (d *Draft) at(name string) string { return path.Join(d.held.Dir, path.Base(name)) }

// own says whether a file is one that this program made.
func (d *Draft) own(st node.Stat) bool { return st.Mode.IsRegular() && st.UID == d.owner }

// OpenBackup makes the workspace of a backup, and removes what dead backups left.
type OpenBackup struct {
	Workspace
	Sidecar Sidecar `json:"sidecar"` // what is known in advance
	// At is the directory with links followed, as it was judged.
	At string `json:"at"`
	// Shared says that others may write to the directory, and that a person knows.
	Shared bool `json:"shared,omitempty"`
	// Note is for the person.
	Note string `json:"note,omitempty"`
	// Records is the directory for what is to be removed if this backup is cut off.
	Records string `json:"records"`
}

func (o *OpenBackup) String() string {
	return fmt.Sprintf("claim a place in %s; remove leftovers of interrupted backups there", o.Dir)
}

func (o *OpenBackup) Do(ctx context.Context, t *Target) error {
	if o.Note != "" {
		t.report("%s", o.Note)
	}
	if err := removeDead(t, o.Records); err != nil {
		t.warn(finding.BackupCleanup, o.Dir, "leftovers of an interrupted backup could not be removed: %v", err)
	}
	if err := o.hold(t); err != nil {
		return fmt.Errorf("cannot make a backup in %s: %w", o.Dir, err)
	}
	if err := o.begin(ctx, t); err != nil {
		if o.Plain != "" { // nobody would ever remove the snapshot itself
			return fmt.Errorf("cannot make a backup in %s: %w", o.Dir, err)
		}
		t.warn(finding.BackupUnrecorded, o.Dir,
			"%v; if this backup is interrupted, its leftovers in %s are not removed", err, o.Dir)
	}
	if err := o.mark(t); err != nil {
		return fmt.Errorf("cannot make a backup in %s: %w", o.Dir, err)
	}
	at, err := o.freeSecond(ctx, t)
	o.Draft.sidecar.Sidecar = o.Sidecar
	o.Draft.sidecar.TakenAt = at
	return err
}

// hold opens the directory, and judges it once more: it may be another one by now.
func (o *OpenBackup) hold(t *Target) (err error) {
	why, err := node.Exposed(t.Host.FS, o.At)
	if err == nil && why != "" && !o.Shared {
		err = errors.New(why)
	}
	if err != nil {
		return err
	}
	o.held, err = t.Host.FS.Hold(o.At)
	return err
}

// mark makes an empty file: it shows whether files can be made, and to whom they belong then.
func (o *OpenBackup) mark(t *Target) error {
	name := o.at(o.file(markSuffix))
	if err := t.Host.FS.Create(name, nil, node.Mine(0o600)); err != nil {
		return o.readable(err)
	}
	st, err := t.Host.FS.Lstat(name)
	if err != nil {
		return o.readable(err)
	}
	o.owner = st.UID
	o.note(t, func(r *record) { r.Owner = &st.UID })
	return nil
}

// freeSecond returns the time, after waiting for a second in which this node took no other backup.
// Names differ by second and revision only, and the revision of an idle cluster stays the same.
func (o *OpenBackup) freeSecond(ctx context.Context, t *Target) (time.Time, error) {
	for {
		names, err := t.Host.FS.ReadDir(o.held.Dir)
		if err != nil {
			return time.Time{}, fmt.Errorf("cannot list the backups: %w", o.readable(err))
		}
		names = slices.DeleteFunc(names, func(name string) bool {
			st, err := t.Host.FS.Lstat(o.at(name))
			return err != nil || !o.own(st) // somebody else could keep this waiting for ever
		})
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
	if o.Draft == nil || o.held == nil {
		return nil
	}
	return o.close(t)
}

func (o *OpenBackup) Done(context.Context, *Target) (bool, error) { return false, nil }

// close removes the temporary files, and what tells of them after them.
func (w Workspace) close(t *Target) error {
	if err := w.dropPlain(t); err != nil {
		return err
	}
	for _, suffix := range suffixes() {
		if err := w.drop(t, w.file(suffix), 0); err != nil {
			return err
		}
	}
	if err := t.Host.FS.Sync(w.held.Dir); err != nil {
		return fmt.Errorf("cannot sync %s: %w", w.Dir, w.readable(err))
	}
	return errors.Join(w.forget(t), w.held.Close())
}

// drop removes a file of the directory, if this program made it: it is the inode, or where that is
// not known, it belongs to who makes the backup, under a name that nobody else could know.
func (w Workspace) drop(t *Target, name string, ino uint64) error {
	st, err := t.Host.FS.Lstat(w.at(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && (!w.own(st) || ino != 0 && ino != st.Ino) {
		return nil
	}
	if err == nil {
		err = t.Host.FS.Remove(w.at(name))
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", path.Join(w.Dir, path.Base(name)), w.readable(err))
	}
	return nil
}

// readable puts the directory's name into an error about a file in it.
func (w Workspace) readable(err error) error {
	if err == nil || w.held == nil || w.held.Dir == w.Dir || !strings.Contains(err.Error(), w.held.Dir+"/") {
		return err
	}
	return &renamedError{err, strings.ReplaceAll(err.Error(), w.held.Dir+"/", w.Dir+"/")}
}

// renamedError is an error in other words.
type renamedError struct {
	error
	text string
}

func (e *renamedError) Error() string { return e.text }
func (e *renamedError) Unwrap() error { return e.error }

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
	saved, err := t.Etcd.Save(ctx, s.Access, s.plain(), t.progress)
	if err != nil {
		return s.readable(err)
	}
	// Until the snapshot is proven, sha256 is the one that etcd sent.
	d := &s.sidecar
	d.SHA256, d.SizeBytes, d.EtcdVersion, d.ClusterID = saved.Trailer,
		saved.SizeBytes, saved.EtcdVersion, fmt.Sprintf("%x", saved.ClusterID)
	d.Source = saved.Endpoint
	return s.saved(t)
}

// saved records which file the snapshot is.
func (w Workspace) saved(t *Target) error {
	st, err := t.Host.FS.Lstat(w.plain())
	if err == nil && w.Plain == "" && !w.own(st) {
		err = errors.New("it is not the file that was written")
	}
	if err != nil {
		return fmt.Errorf("cannot look at %s: %w", w.Snapshot(), w.readable(err))
	}
	w.snapshot = st.Ino
	w.note(t, func(r *record) { r.Snapshot = st.Ino })
	return nil
}

func (s *SaveSnapshot) Undo(_ context.Context, t *Target) error { return s.dropSnapshot(t) }

func (w Workspace) dropSnapshot(t *Target) error {
	if w.Plain != "" {
		return w.dropPlain(t)
	}
	if err := w.drop(t, w.Snapshot(), w.snapshot); err != nil {
		return err
	}
	return w.readable(t.Host.FS.Sync(w.held.Dir))
}

func (s *SaveSnapshot) Done(context.Context, *Target) (bool, error) { return false, nil }

// ProveBackup checks everything saved, as it is on disk, and records what it holds.
type ProveBackup struct {
	repeated
	Workspace
}

func (p *ProveBackup) String() string { return "verify the snapshot " + p.Snapshot() }

func (p *ProveBackup) Do(ctx context.Context, t *Target) error {
	c, err := t.Etcd.Examine(ctx, p.plain(), t.progress)
	if err != nil {
		return p.readable(err)
	}
	d := &p.sidecar
	if d.SizeBytes != 0 && d.SizeBytes != c.SizeBytes {
		return fmt.Errorf("the disk does not return what was written to %s: %d bytes instead of %d",
			p.Snapshot(), c.SizeBytes, d.SizeBytes)
	}
	if d.SHA256 != "" && d.SHA256 != c.Trailer {
		return fmt.Errorf("the disk does not return what was written to %s: the SHA-256 at its end is %s, but etcd "+
			"sent %s", p.Snapshot(), c.Trailer, d.SHA256)
	}
	d.SHA256, d.SizeBytes, d.Revision, d.Keys = c.SHA256, c.SizeBytes, c.Revision, c.Keys
	d.CompactRevision, d.HashKV, d.StorageVersion, d.HashSteps = c.CompactRevision,
		c.HashKV, c.StorageVersion, c.HashSteps
	d.Members = c.Members
	d.Seconds = t.Host.Clock.Now().Sub(d.TakenAt).Seconds()
	return nil
}

// KeepBackup renames the proven snapshot. From that moment the backup exists: its
// sidecar is already there.
type KeepBackup struct {
	Workspace
	File string `json:"file,omitempty"` // its name; empty: etcd-<node>-<UTC>-r<revision>.db in Dir
	Keep int    `json:"keep,omitempty"` // how many of this node's backups stay in Dir; 0: all
	// When a run began etcd's present cluster; zero: no run of this node did.
	Since time.Time `json:"since,omitzero"`
	// Doubt is why what etcd holds may be wrong, and what was taken before may be all that is
	// right; empty: nothing tells so.
	Doubt string `json:"doubt,omitempty"`
	// Another says that the backup is of something else than this node's etcd: its place does not
	// matter to those of this node.
	Another bool `json:"another,omitempty"`

	Kept      string `json:"kept,omitempty"`      // its final name
	Sidecar   string `json:"sidecar,omitempty"`   // the sidecar's final name
	Signature string `json:"signature,omitempty"` // that of the signature over it
}

func (k *KeepBackup) String() string {
	if k.File != "" {
		return fmt.Sprintf("keep it as %s, with %s", k.File, SidecarOf(k.File))
	}
	suffix := ""
	if k.Plain != "" && k.Draft != nil {
		suffix = k.sealing.Suffix()
	}
	text := fmt.Sprintf("keep it in %s as etcd-<node>-<UTC>-r<revision>.db%s, with its sidecar", k.Dir, suffix)
	if k.Keep > 0 {
		text += fmt.Sprintf("; remove this node's oldest backups there, keeping %d", k.Keep)
	}
	return text
}

func (k *KeepBackup) Do(_ context.Context, t *Target) error {
	s := &k.sidecar
	if s.Path = k.File; s.Path == "" {
		s.Path = path.Join(k.Dir, BackupName(s.Sidecar))
	}
	keep := k.keep
	if k.Plain != "" {
		keep = k.keepSealed
	}
	if err := keep(t, *s); err != nil {
		return fmt.Errorf("cannot keep the backup as %s: %w", s.Path, k.readable(err))
	}
	// The backup exists: a failure from here on must not remove it.
	if k.Keep > 0 {
		if err := k.rotate(t); err != nil {
			t.warn(finding.BackupCleanup, k.Dir, "the backup is good, but older ones could not be removed: %v", err)
		}
	}
	if !k.Another {
		if err := k.remember(t); err != nil {
			t.warn(finding.BackupCleanup, s.Path, "the backup is good, but its place could not be recorded: %v", err)
		}
	}
	if err := k.close(t); err != nil {
		t.warn(finding.BackupCleanup, s.Path, "the backup is good, but %v", err)
	}
	return nil
}

// keep puts sidecar and snapshot in place, and never overwrites a file.
func (k *KeepBackup) keep(t *Target, s SidecarFile) error {
	data, err := s.encode()
	if err != nil {
		return err
	}
	temp, snapshot := k.at(k.file(sidecarSuffix)), k.at(k.Snapshot())
	if err := t.Host.FS.Create(temp, data, node.Mine(0o600)); err != nil {
		return err
	}
	for _, name := range []string{temp, snapshot} {
		if err := t.Host.FS.Sync(name); err != nil {
			return err
		}
	}
	st, err := t.Host.FS.Lstat(temp)
	if err != nil {
		return err
	}
	// Cleanup after a crash learns here which sidecar belonged to this backup.
	k.note(t, func(r *record) { r.Path, r.Sidecar = s.Path, st.Ino })
	if err := t.Host.FS.Rename(temp, k.at(SidecarOf(s.Path))); err != nil {
		return err
	}
	k.Sidecar, k.described = SidecarOf(s.Path), st.Ino
	if err := t.Host.FS.Sync(k.held.Dir); err != nil {
		return err
	}
	if err := t.Host.FS.Rename(snapshot, k.at(s.Path)); err != nil {
		return err
	}
	k.Kept = s.Path
	if now, err := t.Host.FS.Lstat(k.at(s.Path)); err != nil || now.Ino != k.snapshot {
		return errors.Join(err, errors.New("someone has put another file in its place"))
	}
	return t.Host.FS.Sync(k.held.Dir)
}

// Undo removes what this operation put in place.
func (k *KeepBackup) Undo(_ context.Context, t *Target) error {
	if k.Draft == nil || k.held == nil {
		return nil
	}
	files := []found{{k.Kept, k.snapshot}, {k.Sidecar, k.described}}
	if k.Plain != "" { // what makes it count goes first
		files = []found{{k.Sidecar, k.described}, {k.Kept, k.stored}, {k.Signature, k.signed}}
	}
	for _, file := range append(files, found{k.file(sidecarSuffix), 0}, found{k.file(signatureSuffix), 0}) {
		if file.name == "" {
			continue
		}
		if err := k.drop(t, file.name, file.ino); err != nil {
			return err
		}
	}
	return k.readable(t.Host.FS.Sync(k.held.Dir))
}

func (k *KeepBackup) Done(context.Context, *Target) (bool, error) { return k.Kept != "", nil }
