package phases

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/pki"
)

// observe gathers the facts of a restore. The snapshot is proven here, while everything still runs.
func (o restorer) observe(ctx context.Context, n *View, id string) (*factsOfRestore, error) {
	seen, err := n.observe(ctx, id)
	if err != nil {
		return nil, err
	}
	f := &factsOfRestore{Facts: seen}
	if f.Etcd == nil {
		return f, nil
	}
	if o.DataDir != "" && !path.IsAbs(o.DataDir) {
		return nil, &UsageError{Reason: fmt.Sprintf("--data-dir %s is not an absolute path", o.DataDir)}
	}
	if f.Snapshot, err = o.source(ctx, n, f.Facts); err != nil {
		return nil, err
	}
	return f, o.complete(ctx, n, f)
}

// survey gathers the facts of a node for a restore on several.
func survey(ctx context.Context, n *View, q surveyQuestion) (*factsOfRestore, error) {
	seen, err := n.observe(ctx, q.Run)
	if err != nil {
		return nil, err
	}
	f := &factsOfRestore{Facts: seen}
	if f.Etcd != nil && f.Live == nil {
		f.Live = n.ownAccount(ctx, f.Etcd)
	}
	if f.Etcd != nil {
		f.Clients = clientsOf(f.Etcd.Access.Endpoints[0])
	}
	f.Snapshot = &q.Snapshot
	if err := (restorer{RestoreOptions: q.Options}).complete(ctx, n, f); err != nil {
		return nil, err
	}
	var inUse *RefusedError
	if f.Etcd != nil && f.Live == nil && errors.As(f.StoppedError, &inUse) {
		n.mute(ctx, f)
	}
	return f, nil
}

// mute reads the data of an etcd that runs and answers nobody. One that was started without a quorum does not even open its port; it is fenced all the same.
func (n *View) mute(ctx context.Context, f *factsOfRestore) {
	walDir := f.Etcd.WALDir
	if walDir != "" {
		walDir = n.FS.Real(walDir)
	}
	d, err := etcd.InspectMute(ctx, n.FS.Real(f.Etcd.DataDir), walDir)
	if err != nil {
		return // what keeps it from being asked is said by the check of the data
	}
	f.Stopped, f.StoppedError = stoppedOf(d), nil
	f.KnownRevision = max(f.KnownRevision, f.Stopped.Revision)
	f.Notes[journal.NoteRevision] = strconv.FormatInt(f.KnownRevision, 10)
}

func stoppedOf(d *etcd.DataDir) *Stopped {
	return &Stopped{ClusterID: d.ClusterID, MemberID: d.MemberID, Revision: d.RevisionAtMost, StorageVersion: d.Contents.StorageVersion, Members: membersOf(d.Members), APIServers: d.Contents.MasterLeases}
}

// ownAccount asks a member that has lost its quorum for what it knows itself; nil when it does not answer even that.
func (n *View) ownAccount(ctx context.Context, pod *EtcdPod) *Live {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := n.bound().dial(ctx, pod.Access)
	if err != nil {
		return nil
	}
	defer c.Close()
	s := c.Status(ctx)[0]
	members, err := c.OwnMembers(ctx)
	if s.Err != nil || err != nil {
		return nil
	}
	live := liveOf(s, members)
	if live.APIServers, err = c.OwnKeys(ctx, masterLeases); err != nil {
		return nil
	}
	return live
}

// complete gathers what depends on the snapshot.
func (o restorer) complete(ctx context.Context, n *View, f *factsOfRestore) (err error) {
	if f.Etcd != nil && f.Live == nil {
		f.Stopped, f.StoppedError = n.stopped(ctx, f.Etcd)
	}
	if f.Etcd != nil {
		if f.Data, err = o.data(n, f); err != nil {
			return err
		}
	}
	if f.KnownRevision, err = o.knownRevision(n, f); err != nil {
		return err
	}
	f.Encryption = n.encryption(f)
	f.Notes = map[string]string{journal.NoteRevision: strconv.FormatInt(f.KnownRevision, 10)}
	switch {
	case f.Etcd == nil:
	case o.DataDir == "":
		f.Notes[journal.NoteKeptData] = stagedDir(f)
	default:
		f.Notes[journal.NoteKeptData] = f.Etcd.DataDir
	}
	if f.Etcd != nil && f.Etcd.WALDir != "" {
		f.Notes[journal.NoteKeptWAL] = stagedWALDir(f)
	}
	return nil
}

// source looks at what is to be restored.
func (o restorer) source(ctx context.Context, n *View, f *Facts) (*SnapshotFacts, error) {
	if o.FromDataDir != "" {
		return o.sourceDataDir(ctx, n)
	}
	file, err := n.hostPath(o.File)
	if err != nil {
		return nil, err
	}
	progress := func(done, total int64) {
		n.Emit(Event{Time: n.Clock.Now().UTC(), Node: f.Node, Phase: "verify-snapshot", Operation: "prove the snapshot " + o.File, State: Progressed, Done: done, Total: total})
	}
	sidecar, unread := sidecarOf(n.FS, file)
	r, err := snapfile.Check(ctx, n.FS.Real(file), snapfile.Options{Raw: o.SkipHashCheck, Steps: stepsIn(sidecar), Progress: progress})
	if err != nil {
		return nil, o.hintRaw(n, file, err)
	}
	s := snapshotFacts(r)
	s.Path = file
	if sidecar != nil {
		s.Sidecar = &sidecar.Sidecar
	}
	return s, unread
}

// hintRaw tells who tries to restore a plain copy of a database how that is done.
func (o restorer) hintRaw(n *View, file string, err error) error {
	var bad *snapfile.Bad
	if !errors.As(err, &bad) || bad.Check != snapfile.CheckLength || o.SkipHashCheck {
		return err
	}
	const page = 4096
	if st, statErr := n.FS.Lstat(file); statErr != nil || st.Size == 0 || st.Size%page != 0 {
		return err
	}
	return withHint(err, "if it is a copy of member/snap/db, which has no SHA-256 at its end, add --skip-hash-check; its structure is checked all the same")
}

func snapshotFacts(r *snapfile.Report) *SnapshotFacts {
	s := &SnapshotFacts{Proof: proofOf(r), StorageVersion: r.StorageVersion, Prefixes: r.EncryptionPrefixes, APIServers: r.MasterLeases}
	for _, m := range r.Members {
		s.Members = append(s.Members, Member{ID: op.ID(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, IsLearner: m.IsLearner})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Resources)) {
		s.Resources = append(s.Resources, op.Count{Resource: name, Objects: r.Resources[name]})
	}
	return s
}

func (o restorer) sourceDataDir(ctx context.Context, n *View) (*SnapshotFacts, error) {
	d, err := n.inspectNamed(ctx, o.FromDataDir, o.FromWALDir)
	if err != nil {
		return nil, fmt.Errorf("cannot restore from the data directory %s: %w", o.FromDataDir, err)
	}
	s := snapshotFacts(d.Contents)
	s.Path = o.FromDataDir
	s.Resources = nil // without the WAL they are not the truth
	s.Proof.Revision, s.Proof.SHA256 = d.RevisionAtMost, ""
	s.Members = membersOf(d.Members)
	return s, nil
}

// inspectNamed is inspect of what a person has named.
func (n *View) inspectNamed(ctx context.Context, dir, walDir string) (*etcd.DataDir, error) {
	d, err := n.inspect(ctx, dir, walDir)
	if errors.Is(err, etcd.ErrNoWAL) {
		return nil, refuse("name the directory in which its .wal files are with --from-wal-dir", "the data of %s is not whole without its WAL: %v", dir, err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse("name the directory in which member/snap/db is", "no etcd has its data there: %v", err)
	}
	return d, err
}

func (n *View) inspect(ctx context.Context, dir, walDir string) (*etcd.DataDir, error) {
	if walDir != "" {
		walDir = n.FS.Real(walDir)
	}
	d, err := etcd.Inspect(ctx, n.FS.Real(dir), walDir)
	if errors.Is(err, etcd.ErrInUse) {
		return nil, refuse("stop that etcd first", "%s is in use: %v", dir, err)
	}
	return d, err
}

// An etcd that ends as soon as it is started holds its lock for a moment only, and is started again later each time.
const (
	inUseTries = 10
	inUsePause = 500 * time.Millisecond
)

// stopped reads the data of an etcd that does not serve. A *RefusedError says that it runs all the same.
func (n *View) stopped(ctx context.Context, pod *EtcdPod) (*Stopped, error) {
	d, err := n.inspect(ctx, pod.DataDir, pod.WALDir)
	var inUse *RefusedError
	for try := 1; try < inUseTries && errors.As(err, &inUse) && n.Clock.Sleep(ctx, inUsePause) == nil; try++ {
		d, err = n.inspect(ctx, pod.DataDir, pod.WALDir)
	}
	if err != nil {
		return nil, err
	}
	return stoppedOf(d), nil
}

// data looks at the directories that are exchanged, and finds places on the same mounts to stage in.
func (o restorer) data(n *View, f *factsOfRestore) (DataFacts, error) {
	dir := o.liveDir(f)
	d := DataFacts{Attr: node.Mine(0o700)}
	for _, present := range []string{f.Etcd.DataDir, dir} { // a new directory gets the owner of the present one
		st, err := n.FS.Lstat(present)
		d.DirExists = err == nil
		if err == nil {
			d.Attr = st.Attr()
			d.Attr.Mode = 0o700
		} else if !errors.Is(err, fs.ErrNotExist) {
			return d, fmt.Errorf("cannot look at the data directory: %w", err)
		}
	}
	d.MemberExists = n.thereIs(path.Join(dir, "member"))
	var err error
	if d.MemberOdd, err = n.odd(path.Join(dir, "member"), "member/snap", "member/wal"); err != nil {
		return d, err
	}
	if d.StageIn, err = n.stageIn(f, dir, d.DirExists); err != nil {
		return d, err
	}
	if f.Etcd.WALDir != "" {
		if d.WALOdd, err = n.odd(f.Etcd.WALDir); err != nil {
			return d, err
		}
		if d.WALStageIn, err = n.stageIn(f, path.Dir(f.Etcd.WALDir), true); err != nil {
			return d, err
		}
	}
	if d.Free, err = n.FS.Free(nearest(n.FS, d.StageIn)); err != nil {
		return d, err
	}
	d.RunFree, err = n.FS.Free(nearest(n.FS, journal.RunsDir))
	return d, err
}

// odd says why a directory that is to be exchanged cannot be: it, or one of those below it, is a link or a mount point, which the exchange would carry along.
func (n *View) odd(dir string, below ...string) (string, error) {
	names := []string{dir}
	for _, b := range below {
		names = append(names, path.Join(path.Dir(dir), b))
	}
	for _, name := range names {
		st, err := n.FS.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("cannot look at %s: %w", name, err)
		}
		if st.Mode&fs.ModeSymlink != 0 {
			return name + " is a symbolic link", nil
		}
		mounted, err := node.IsMountPoint(n.FS, name)
		if err != nil {
			return "", fmt.Errorf("cannot look at %s: %w", name, err)
		}
		if mounted {
			return name + " is a mount point", nil
		}
	}
	return "", nil
}

// stageIn returns the run's folder where it is on the same mount as dir, so that what is exchanged out is kept outside the data directory: `kubeadm upgrade` copies
// all of that, and `kubeadm reset` empties it. Else a hidden directory in dir; etcd tolerates those.
func (n *View) stageIn(f *factsOfRestore, dir string, there bool) (string, error) {
	at := dir
	if !there {
		at = path.Dir(dir)
	}
	same, err := node.SameMount(n.FS, nearest(n.FS, at), nearest(n.FS, journal.RunsDir))
	if err != nil {
		return "", fmt.Errorf("cannot find a place to stage the new data: %w", err)
	}
	if same {
		return journal.RunDir(f.Run), nil
	}
	return path.Join(dir, journal.HiddenDir(f.Run)), nil
}

// nearest returns the closest parent that is there.
func nearest(fsys node.Reader, name string) string {
	for name != "/" {
		if _, err := fsys.Lstat(name); err == nil {
			return name
		}
		name = path.Dir(name)
	}
	return name
}

// knownRevision is the highest revision that anything tells of: the live etcd, its stopped data, earlier runs, and the backups beside the snapshot and in the usual place.
func (o restorer) knownRevision(n *View, f *factsOfRestore) (int64, error) {
	known := int64(0)
	if f.Live != nil {
		known = f.Live.Revision
	}
	if f.Stopped != nil {
		known = max(known, f.Stopped.Revision)
	}
	if o.FromDataDir != "" {
		known = max(known, f.Snapshot.Revision)
	}
	runs, err := journal.List(n.FS)
	if err != nil {
		return 0, err
	}
	for _, r := range runs {
		if r.State == nil {
			continue
		}
		if rev, err := strconv.ParseInt(r.State.Run.Notes[journal.NoteRevision], 10, 64); err == nil {
			known = max(known, rev)
		}
		// A restore gave out revisions above what it had bumped to.
		var staged op.Staged
		if readJSONFile(n.FS, path.Join(journal.RunDir(r.ID), "staged.json"), &staged) == nil {
			known = max(known, staged.Revision)
		}
	}
	dirs := []string{journal.BackupsDir}
	if o.File != "" {
		dirs = append(dirs, path.Dir(f.Snapshot.Path))
	}
	for _, dir := range dirs {
		for _, s := range n.sidecars(dir) {
			known = max(known, s.Revision)
		}
	}
	return known, nil
}

func (n *View) encryption(f *factsOfRestore) Encryption {
	var e Encryption
	m, c, ok := program(f.Manifests, "kube-apiserver")
	if !ok {
		return e // nothing on this node reads the values
	}
	var config pki.Encryption
	if flag := flagOf(m, c, "encryption-provider-config"); flag != "" {
		e.File = hostFile(m, c, flag)
		data, err := n.FS.ReadFile(e.File)
		if err == nil {
			config, err = pki.ParseEncryption(data)
		}
		if err != nil {
			e.Error = err
			return e
		}
	}
	for _, prefix := range f.Snapshot.Prefixes {
		if !config.Covers(prefix) {
			e.Missing = append(e.Missing, prefix)
		}
	}
	return e
}
