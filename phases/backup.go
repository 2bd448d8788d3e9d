package phases

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Backup is the workflow that takes a proven snapshot. It changes nothing of the node, and so runs whatever else is open.
func Backup(o BackupOptions) backupWorkflow {
	return backupWorkflow{Name: "backup", Unjournaled: true, Observe: o.observe, Phases: []backupPhase{
		o.preflight(),
		o.snapshot(),
		o.verifySnapshot(),
		o.keep(),
	}}
}

type (
	backupPhase = Phase[*factsOfBackup]
	// backupWorkflow takes a proven snapshot.
	backupWorkflow = Workflow[*View, *factsOfBackup]
)

// factsOfBackup are what a backup depends on.
type factsOfBackup struct {
	*Facts
	Backup *BackupPlace
}

// BackupPlace describes the place that a backup is to have.
type BackupPlace struct {
	Dir     string   // host path
	File    string   // host path; empty: named by what the backup holds
	Missing []string // directories on the way to Dir that are not there, outermost first
	DirOdd  string   // why Dir cannot be used
	Taken   string   // File, or its sidecar's name, where there is one already that no dead backup left
	Free    uint64   // bytes
	Need    int64    // bytes, at most
	Cluster string   // hex; known beforehand for a data directory only
}

// TakeBackup takes a backup and returns what its sidecar says. confirm sees the plan, and its error ends the command.
func TakeBackup(ctx context.Context, n *engineNode, w Work, confirm func(Plan) error) (*Sidecar, error) {
	var kept *op.KeepBackup
	err := n.Do(ctx, w, func(p Plan) error {
		for _, phase := range p.Phases {
			for _, o := range phase.Ops() {
				if k, ok := o.(*op.KeepBackup); ok {
					kept = k
				}
			}
		}
		return confirm(p)
	})
	if err != nil {
		return nil, err
	}
	s, err := sidecarOf(n.Host.FS, kept.Kept)
	if s == nil {
		return nil, err
	}
	return &s.Sidecar, err
}

// check says what makes no sense.
func (o BackupOptions) check() error {
	switch {
	case o.File != "" && o.Dir != "":
		return &UsageError{Reason: "a backup goes to a FILE or into a --dir, not both"}
	case o.Keep < 0:
		return &UsageError{Reason: "--keep takes a number of backups, 1 or more"}
	case o.Keep > 0 && o.File != "":
		return &UsageError{Reason: "--keep is for backups in a --dir, and not for a FILE"}
	case o.FromWALDir != "" && o.FromDataDir == "":
		return &UsageError{Reason: "--from-wal-dir is of use with --from-data-dir only"}
	case o.Dir != "" && !path.IsAbs(o.Dir):
		return &UsageError{Reason: fmt.Sprintf("--dir must be an absolute path, and %s is not", o.Dir)}
	}
	return nil
}

func (o BackupOptions) observe(ctx context.Context, n *View, id string) (*factsOfBackup, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	seen, err := n.observe(ctx, id)
	if err != nil {
		return nil, err
	}
	f := &factsOfBackup{Facts: seen}
	if f.Live == nil && f.Etcd != nil && o.FromDataDir == "" {
		f.Live = n.alone(ctx, f.Etcd)
	}
	if f.Backup, err = o.place(n); err != nil {
		return nil, err
	}
	switch {
	case o.FromDataDir != "":
		d, err := n.inspectNamed(ctx, o.FromDataDir, o.FromWALDir)
		if err != nil {
			return nil, fmt.Errorf("cannot take a backup of the data directory %s: %w", o.FromDataDir, err)
		}
		f.Backup.Cluster = fmt.Sprintf("%x", d.ClusterID)
		f.Backup.Need = d.Contents.SizeBytes
	case f.Live != nil:
		f.Backup.Need = f.Live.SizeBytes
	}
	return f, nil
}

// alone asks the local member for what it can tell without a quorum; nil when it does not answer at all.
func (n *View) alone(ctx context.Context, pod *EtcdPod) *Live {
	c, err := n.bound().dial(ctx, pod.Access)
	if err != nil {
		return nil
	}
	defer c.Close()
	s := c.Status(ctx)[0]
	if s.Err != nil {
		return nil
	}
	members, err := c.OwnMembers(ctx)
	if err != nil {
		members = nil // it does not know more than that
	}
	return &Live{ClusterID: s.ClusterID, MemberID: s.MemberID, Revision: s.Revision, Version: s.Version, SizeBytes: s.SizeBytes, Members: membersOf(members)}
}

// place looks at where the backup is to go.
func (o BackupOptions) place(n *View) (*BackupPlace, error) {
	b := &BackupPlace{Dir: o.Dir}
	if b.Dir == "" {
		b.Dir = DefaultDir
	}
	if o.File != "" {
		file, err := n.hostPath(o.File)
		if err != nil {
			return nil, err
		}
		b.File, b.Dir = file, path.Dir(file)
	}
	b.Dir = path.Clean(b.Dir)
	at := nearest(n.FS, b.Dir)
	for dir := b.Dir; dir != at; dir = path.Dir(dir) {
		b.Missing = append(b.Missing, dir)
	}
	slices.Reverse(b.Missing)
	resolved, err := n.FS.Resolve(at)
	if err != nil {
		return nil, fmt.Errorf("cannot find %s: %w", at, err)
	}
	st, err := n.FS.Lstat(resolved)
	if err != nil {
		return nil, fmt.Errorf("cannot look at %s: %w", at, err)
	}
	if !st.Mode.IsDir() {
		b.DirOdd = at + " is no directory"
		return b, nil
	}
	if b.Free, err = n.FS.Free(at); err != nil {
		return nil, fmt.Errorf("cannot tell how much room there is in %s: %w", at, err)
	}
	b.Taken, err = taken(n.FS, b)
	return b, err
}

// taken returns the name that stands in the way. What a dead backup left does not: the new one removes it.
func taken(fsys node.Reader, b *BackupPlace) (string, error) {
	if b.File == "" || len(b.Missing) > 0 {
		return "", nil
	}
	dead, err := op.DeadBackups(fsys, b.Dir)
	if err != nil {
		return "", err
	}
	for _, name := range []string{b.File, op.SidecarOf(b.File)} {
		_, err := fsys.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) || slices.ContainsFunc(dead, func(d op.DeadBackup) bool { return slices.Contains(d.Files, name) }) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("cannot look at %s: %w", name, err)
		}
		return name, nil
	}
	return "", nil
}

func (o BackupOptions) preflight() backupPhase {
	checks := []func(*factsOfBackup) error{o.checkEtcd, o.checkPlace, o.checkTaken, o.checkRoom}
	return backupPhase{Name: "preflight", Short: "refuse what cannot end well, and make a place for the backup",
		Plan: func(_ context.Context, f *factsOfBackup) ([]op.Op, error) {
			if err := passes(f, checks...); err != nil {
				return nil, err
			}
			var ops []op.Op
			for _, dir := range f.Backup.Missing {
				ops = append(ops, &op.MakeDirectory{Path: dir, Attr: node.Mine(0o700)})
			}
			known := Sidecar{Node: f.Node, ClusterID: f.Backup.Cluster, Fingerprints: f.Fingerprints}
			return append(ops, &op.OpenBackup{Workspace: workspace(f), Sidecar: known}), nil
		}}
}

func workspace(f *factsOfBackup) op.Workspace { return op.Workspace{Dir: f.Backup.Dir, Run: f.Run} }

func (o BackupOptions) checkEtcd(f *factsOfBackup) error {
	if o.FromDataDir != "" {
		return nil // the data was looked at, and is nobody's
	}
	if f.Etcd == nil {
		if f.OpenRun != "" {
			return refuse("type `etcdpod resume` or `etcdpod rollback` first", "no manifest in %s runs etcd while the run %s is open", f.ManifestDir, f.OpenRun)
		}
		return refuse("name the data of a member that is stopped with --from-data-dir", "no manifest in %s runs etcd", f.ManifestDir)
	}
	if f.Live == nil {
		return &UnreachableError{What: "cannot take a backup", Cause: f.LiveError, Suggestion: fmt.Sprintf("if that etcd is stopped for good, type `etcdpod backup %s`", journal.FromDirs(f.Etcd.DataDir, f.Etcd.WALDir))}
	}
	return nil
}

// checkPlace: the kubelet would take a backup among its manifests for one of them, and what lies with etcd's data goes when it goes.
func (o BackupOptions) checkPlace(f *factsOfBackup) error {
	const hint = "name another place"
	b := f.Backup
	switch {
	case b.DirOdd != "":
		return refuse(hint, "cannot put a backup into %s: %s", b.Dir, b.DirOdd)
	case o.File != "" && len(b.Missing) > 0:
		return refuse("make the directory first", "cannot put a backup into %s: it is not there", b.Dir)
	case within(b.Dir, f.ManifestDir):
		return refuse(hint, "cannot put a backup into %s: the kubelet runs every file there", b.Dir)
	case f.Etcd != nil && within(b.Dir, f.Etcd.DataDir):
		return refuse(hint, "cannot put a backup into %s: it would be lost with the data that it is a backup of", b.Dir)
	}
	return nil
}

// within says whether a directory is another one, or below it.
func within(dir, outer string) bool {
	return outer != "" && overlap(dir, outer) && len(path.Clean(dir)) >= len(path.Clean(outer))
}

func (o BackupOptions) checkTaken(f *factsOfBackup) error {
	if f.Backup.Taken == "" {
		return nil
	}
	return refuse("name another FILE, or move this one away", "%s is there already: a backup never replaces a file", f.Backup.Taken)
}

func (o BackupOptions) checkRoom(f *factsOfBackup) error {
	const more = 16 << 20 // what etcd writes until the snapshot is taken, and the log of a stopped one
	need := uint64(f.Backup.Need) + more
	if f.Backup.Free >= need {
		return nil
	}
	return refuse("name another place, or keep fewer backups with --keep", "not enough room for the backup in %s: %d MiB free, %d MiB needed", f.Backup.Dir, f.Backup.Free>>20, need>>20)
}

func (o BackupOptions) snapshot() backupPhase {
	return backupPhase{Name: "snapshot", Short: "take the snapshot, with the SHA-256 that comes with it",
		Plan: func(_ context.Context, f *factsOfBackup) ([]op.Op, error) {
			w := workspace(f)
			if o.FromDataDir != "" {
				return []op.Op{&op.SnapshotDataDir{Dir: o.FromDataDir, WALDir: o.FromWALDir, Snapshot: w.Snapshot()}}, nil
			}
			return []op.Op{&op.SaveSnapshot{Workspace: w, Access: f.Etcd.Access}}, nil
		}}
}

func (o BackupOptions) verifySnapshot() backupPhase {
	return backupPhase{Name: "verify-snapshot", Short: "prove that what was written is whole, and what etcd sent",
		Plan: func(_ context.Context, f *factsOfBackup) ([]op.Op, error) {
			return []op.Op{&op.ProveBackup{Workspace: workspace(f)}}, nil
		}}
}

func (o BackupOptions) keep() backupPhase {
	return backupPhase{Name: "keep", Short: "give the backup its name",
		Plan: func(_ context.Context, f *factsOfBackup) ([]op.Op, error) {
			return []op.Op{&op.KeepBackup{Workspace: workspace(f), File: f.Backup.File, Keep: o.Keep}}, nil
		}}
}
