package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"path"
	"slices"
	"strconv"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// observe gathers the facts of a restore. It proves the snapshot while everything still runs.
func (o restorer) observe(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
	f, err := look(ctx, n, id)
	if err == nil && f.Etcd == nil && f.EtcdError == nil && o.Shared == nil {
		f.Departed = n.Departed(ctx, f.Manifests, true)
	}
	if err != nil || f.Etcd == nil {
		return f, err
	}
	if err := o.Check(); err != nil { // of several nodes, another one has sent them
		return nil, err
	}
	if f.Snapshot, err = o.source(ctx, n, f.Facts); err != nil {
		return nil, err
	}
	if f.Written = notCounted(); f.Live != nil && f.LiveError == nil {
		f.Written = written(ctx, n, f.Etcd, f.Snapshot)
	}
	for _, url := range f.neighbours() {
		if n.Etcd.Listening(ctx, url) {
			f.Answering = append(f.Answering, url)
		}
	}
	return f, o.complete(ctx, n, f)
}

// look gathers what every restore must know of a node.
func look(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
	seen, err := n.Observe(ctx, id)
	if err != nil {
		return nil, err
	}
	n.ObserveCertificates(seen)
	f := &Facts{Facts: seen}
	if f.Etcd != nil && f.Live == nil { // without a quorum it still says who the members are
		if own, err := n.OwnLive(ctx, f.Etcd.Access); err == nil {
			f.Live = own
		}
	}
	return f, nil
}

// neighbours are the peer URLs of the snapshot's other members, where this node is one of them by
// its own. A member that was emptied may have begun a cluster of its own, which knows nobody else.
func (f *Facts) neighbours() (urls []string) {
	own := slices.IndexFunc(f.Snapshot.Members, func(m observe.Member) bool {
		return observe.ShareURL(m.PeerURLs, f.Etcd.PeerURLs)
	})
	if own < 0 {
		return nil
	}
	for i, m := range f.Snapshot.Members {
		if i != own {
			urls = append(urls, m.PeerURLs...)
		}
	}
	return urls
}

// survey gathers one node's facts for a restore on several.
func survey(ctx context.Context, n *observe.Node, q surveyQuestion) (*Facts, error) {
	f, err := look(ctx, n, q.Run)
	if err != nil {
		return nil, err
	}
	if f.Etcd != nil {
		f.Clients = observe.ClientsOf(f.Etcd.Access.Endpoints[0])
	}
	f.Snapshot = &q.Snapshot
	if err := (restorer{Options: q.Options}).complete(ctx, n, f); err != nil {
		return nil, err
	}
	var inUse *engine.RefusedError
	if f.Etcd != nil && f.Live == nil && errors.As(f.StoppedError, &inUse) {
		inspectMute(ctx, n, f)
	}
	return f, nil
}

// inspectMute reads the data of an etcd that runs but answers nobody. One started without a quorum
// does not even open its port; the fence stops it all the same.
func inspectMute(ctx context.Context, n *observe.Node, f *Facts) {
	walDir := f.Etcd.WALDir
	if walDir != "" {
		walDir = n.FS.Real(walDir)
	}
	d, err := etcd.InspectMute(ctx, n.FS.Real(f.Etcd.DataDir), walDir)
	if err != nil {
		return // checkData reports why etcd does not answer
	}
	f.Stopped, f.StoppedError = observe.StoppedOf(d), nil
	if plausible(f.Stopped.Revision) && f.Stopped.Revision > f.KnownRevision {
		f.KnownRevision, f.KnownFrom = f.Stopped.Revision, "etcd"
	}
	f.Notes[journal.NoteRevision] = strconv.FormatInt(f.KnownRevision, 10)
}

// complete gathers the facts that depend on the snapshot.
func (o restorer) complete(ctx context.Context, n *observe.Node, f *Facts) (err error) {
	if f.Etcd != nil && f.Live == nil {
		f.Stopped, f.StoppedError = n.Stopped(ctx, f.Etcd)
		f.LogAlone = n.LogAlone(f.Etcd)
	}
	if f.Etcd != nil {
		if f.Data, err = o.data(n, f); err != nil {
			return err
		}
	}
	k, err := o.knownRevision(n, f)
	if err != nil {
		return err
	}
	f.KnownRevision, f.KnownFrom, f.Uncounted = k.revision, k.source, k.odd
	f.Encryption = n.Encryption(ctx, f.Manifests, f.Snapshot.Stored)
	if f.Etcd != nil && o.DataDir != "" {
		n.MoveData(f.Facts, o.DataDir)
	}
	f.Reached = reached(ctx, n, f)
	f.EtcdServes = f.Live != nil && f.LiveError == nil
	f.APIReady = observe.HasAPIServer(f.Facts) && f.API.Kubeconfig != "" && op.Serves(n.API.Ready(ctx, f.API))
	f.Notes = map[string]string{journal.NoteRevision: strconv.FormatInt(f.KnownRevision, 10)}
	switch {
	case f.Etcd == nil:
	case o.DataDir == "":
		f.Notes[journal.NoteKeptData] = stagedDir(f)
	default:
		f.Notes[journal.NoteKeptData] = f.Etcd.DataDir
	}
	if f.Etcd != nil && f.Live == nil && n.NoDB(f.Etcd) {
		f.Notes[journal.NoteKeptNoDB] = "true"
	}
	if f.Etcd != nil && f.Etcd.WALDir != "" {
		f.Notes[journal.NoteKeptWAL] = stagedWALDir(f)
	}
	return nil
}

// reached are the API servers elsewhere that accept connections, at the port of this node's.
func reached(ctx context.Context, n *observe.Node, f *Facts) (answer []string) {
	port := "6443"
	if m, c, ok := observe.Program(f.Manifests, "kube-apiserver"); ok {
		port = cmp.Or(observe.FlagOf(m, c, "secure-port"), port)
	}
	all := f.elsewhere()
	open := make([]bool, len(all))
	engine.Concurrently(len(all), func(i int) {
		open[i] = n.Etcd.Listening(ctx, "https://"+net.JoinHostPort(all[i], port))
	})
	for i, address := range all {
		if open[i] {
			answer = append(answer, address)
		}
	}
	return answer
}

// source examines the data to restore.
func (o restorer) source(ctx context.Context, n *observe.Node, f *observe.Facts) (*SnapshotFacts, error) {
	if o.FromDataDir != "" {
		return o.sourceDataDir(ctx, n, f)
	}
	file, err := n.HostPath(o.File)
	if err != nil {
		return nil, err
	}
	progress := func(done, total int64) {
		n.Emit(engine.Event{Time: n.Clock.Now().UTC(), Node: f.Node, Phase: "verify-snapshot",
			Operation: "verify the snapshot " + o.File, State: engine.Progressed, Done: done, Total: total})
	}
	if o.Unsealing, err = o.Unsealing.OnHost(n); err != nil {
		return nil, err
	}
	if s, err := backup.LookSealed(n.FS, file, o.Unsealing); s != nil || err != nil {
		if err != nil {
			return nil, err
		}
		return o.sealedSource(ctx, n, s, progress)
	}
	if o.SkipHashCheck && snapfile.InUse(n.FS.Real(file)) {
		return nil, engine.Refuse("`etcdpod backup` takes a snapshot of that etcd; or stop it, and restore its data "+
			"directory with --from-data-dir, which also has what is in its log alone", "an etcd is running on %s, and "+
			"writes to it", file)
	}
	sidecar, unread := backup.SidecarOf(n.FS, file)
	r, err := snapfile.Check(ctx, n.FS.Real(file),
		snapfile.Options{Raw: o.SkipHashCheck, Steps: backup.StepsIn(sidecar), Progress: progress})
	if err != nil {
		return nil, o.hintRaw(n, file, err)
	}
	s := snapshotFacts(r)
	s.Path = file
	if st, err := n.FS.Lstat(file); err == nil {
		s.ModTime = st.ModTime
	}
	if sidecar != nil {
		s.Sidecar = &sidecar.Sidecar
	}
	if err := backup.Against(r, sidecar, unread, false); err != nil {
		return nil, engine.WithHint(err, backup.WithoutSidecar(o.File))
	}
	return s, nil
}

// hintRaw adds a hint for somebody who restores a plain copy of a database, or a data directory.
func (o restorer) hintRaw(n *observe.Node, file string, err error) error {
	var bad *snapfile.Bad
	if _, there := n.FS.Lstat(path.Join(file, "member/snap/db")); there == nil {
		if etcd.InUse(n.FS.Real(file)) {
			return engine.WithHint(err, "an etcd runs on that data directory: `etcdpod backup` takes a snapshot of it")
		}
		return engine.WithHint(err, "it is a data directory: restore it with --from-data-dir "+file)
	}
	if !errors.As(err, &bad) || !bad.Bare {
		return err
	}
	return engine.WithHint(err, backup.BareHint(o.File, n.FS.Real(file)))
}

func snapshotFacts(r *snapfile.Report) *SnapshotFacts {
	s := &SnapshotFacts{Proof: bind.ProofOf(r), StorageVersion: r.StorageVersion,
		Stored: r.Stored, APIServers: observe.LiveMasters(r), DeadAPIServers: r.DeadMasters,
		Members: bind.MembersOf(r.Members), NoAdmins: r.Resources["clusterrolebindings"] > 0 && !r.AdminBinding}
	s.telling(r)
	for _, name := range slices.Sorted(maps.Keys(r.Resources)) {
		s.Resources = append(s.Resources, op.Count{Resource: name, Objects: r.Resources[name]})
	}
	return s
}

func (o restorer) sourceDataDir(ctx context.Context, n *observe.Node, f *observe.Facts) (*SnapshotFacts, error) {
	d, err := n.InspectNamed(ctx, o.FromDataDir, o.FromWALDir, o.UpToHole)
	if err != nil {
		return nil, fmt.Errorf("cannot restore from the data directory %s: %w", o.FromDataDir, err)
	}
	s := snapshotFacts(d.Contents)
	s.Path, s.Caveats, s.Cluster = o.FromDataDir, d.Caveats(), op.ID(d.ClusterID)
	s.Copied = backup.Copied(n, f, o.FromDataDir, d.Pending())
	s.beyond(d)
	s.Members = bind.MembersOf(d.Members)
	return s, nil
}

// beyond corrects what only the db tells by what its log may add.
func (s *SnapshotFacts) beyond(d *etcd.DataDir) {
	s.Proof.Revision, s.Proof.SHA256 = d.RevisionAtMost, ""
	if d.RevisionAtMost > d.Contents.Revision {
		s.AtLeast, s.Resources = d.Contents.Revision, nil
	}
}

// data examines the directories that are exchanged, and finds places on the same mounts to stage
// in.
func (o restorer) data(n *observe.Node, f *Facts) (DataFacts, error) {
	dir := o.liveDir(f)
	d := DataFacts{Attr: node.Mine(0o700)}
	// A new directory gets the owner of the current one.
	for _, present := range []string{f.Etcd.DataDir, dir} {
		st, err := n.FS.Lstat(present)
		d.DirExists = err == nil
		if err == nil {
			d.Attr = st.Attr()
			d.Attr.Mode = 0o700
		} else if !errors.Is(err, fs.ErrNotExist) {
			return d, fmt.Errorf("cannot look at the data directory: %w", err)
		}
	}
	d.MemberExists = n.Exists(path.Join(dir, "member"))
	var err error
	if o.DataDir != "" {
		if d.DirOdd, err = dirOdd(n, f, dir); err != nil {
			return d, err
		}
	}
	if d.MemberOdd, err = odd(n, path.Join(dir, "member"), "member/snap", "member/wal"); err != nil {
		return d, err
	}
	if d.StageIn, err = stageIn(n, f, dir, d.DirExists); err != nil {
		return d, err
	}
	if f.Etcd.WALDir != "" {
		if err := d.lookAtWAL(n, f); err != nil {
			return d, err
		}
	}
	if d.Free, err = n.FS.Free(observe.Nearest(n.FS, d.StageIn)); err != nil {
		return d, err
	}
	d.RunFree, err = n.FS.Free(observe.Nearest(n.FS, journal.RunsDir))
	return d, err
}

// dirOdd says why a directory cannot be the new data directory. What counts is where its links
// lead.
func dirOdd(n *observe.Node, f *Facts, dir string) (string, error) {
	for _, outer := range []struct{ dir, why string }{
		{f.ManifestDir, "the kubelet runs every file there"},
		{f.Etcd.DataDir, "it is inside the current data directory"},
		{f.Etcd.WALDir, "it is inside the directory of etcd's log"},
		{journal.Home, "etcdpod keeps its runs there, and what they replaced"},
	} {
		if outer.dir != "" && node.Inside(n.FS, dir, outer.dir) {
			return outer.why, nil
		}
	}
	if node.Inside(n.FS, f.Etcd.DataDir, dir) {
		return "the current data directory is inside it", nil
	}
	why, err := node.Exposed(n.FS, observe.Nearest(n.FS, node.Resolved(n.FS, dir)))
	if why != "" {
		why = "others could replace the data: " + why
	}
	return why, err
}

// lookAtWAL looks at a WAL that is not with the data. What is in a mount point is exchanged inside
// it.
func (d *DataFacts) lookAtWAL(n *observe.Node, f *Facts) (err error) {
	dir := f.Etcd.WALDir
	if st, err := n.FS.Lstat(dir); err == nil && st.Mode.IsDir() {
		if d.WALMount, err = node.IsMountPoint(n.FS, dir); err != nil {
			return fmt.Errorf("cannot look at %s: %w", dir, err)
		}
	}
	if !d.WALMount {
		if d.WALOdd, err = odd(n, dir); err != nil {
			return err
		}
		d.WALStageIn, err = stageIn(n, f, path.Dir(dir), true)
		return err
	}
	d.WALStageIn = path.Join(dir, journal.HiddenDir(f.Run))
	names, err := n.FS.ReadDir(dir)
	for i := 0; err == nil && i < len(names) && d.WALOdd == ""; i++ {
		if !slices.Contains(node.NobodysNames(), names[i]) {
			d.WALOdd, err = odd(n, path.Join(dir, names[i]))
		}
	}
	return err
}

// odd says why a directory cannot be exchanged: it, or one below it, is a link or a mount point,
// which the exchange would carry along.
func odd(n *observe.Node, dir string, below ...string) (string, error) {
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
	mounted, err := node.MountIn(n.FS, dir)
	if err != nil {
		return "", fmt.Errorf("cannot look at %s: %w", dir, err)
	}
	if mounted != "" {
		return "something is mounted at " + mounted, nil
	}
	return "", nil
}

// stageIn returns the run's folder if it is on the same mount as dir: old data belongs outside the
// data directory, which `kubeadm upgrade` copies as a whole and `kubeadm reset` empties. Otherwise
// it returns a hidden directory in dir, which etcd tolerates.
func stageIn(n *observe.Node, f *Facts, dir string, there bool) (string, error) {
	at := dir
	if !there {
		at = path.Dir(dir)
	}
	same, err := node.SameMount(n.FS, observe.Nearest(n.FS, at), observe.Nearest(n.FS, journal.RunsDir))
	if err != nil {
		return "", fmt.Errorf("cannot find a directory to stage the new data in: %w", err)
	}
	if same {
		return journal.RunDir(f.Run), nil
	}
	return path.Join(dir, journal.HiddenDir(f.Run)), nil
}
