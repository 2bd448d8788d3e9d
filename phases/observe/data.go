package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// StoppedOf is what a data directory says about its cluster.
func StoppedOf(d *etcd.DataDir) *Stopped {
	return &Stopped{
		ClusterID: d.ClusterID, MemberID: d.MemberID, Revision: d.RevisionAtMost,
		StorageVersion: d.Contents.StorageVersion, Members: bind.MembersOf(d.Members),
		APIServers: LiveMasters(d.Contents),
	}
}

// LiveMasters are the API servers that keep an entry alive in a snapshot.
func LiveMasters(r *snapfile.Report) (addresses []string) {
	for _, address := range r.MasterLeases {
		if !slices.Contains(r.DeadMasters, address) {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// InspectNamed reads a data directory that the operator named, and its WAL, which is in
// dir/member/wal when walDir is empty; both are host paths. A [*engine.RefusedError] says what to
// name instead, or that an etcd is using the directory. A hole is an error, unless the operator
// takes what stands before it.
func (n *Node) InspectNamed(ctx context.Context, dir, walDir string, upToHole bool) (*etcd.DataDir, error) {
	d, err := n.inspect(ctx, dir, walDir)
	if err == nil && d.Hole != nil && !upToHole {
		return nil, engine.WithHint(&etcd.HoleError{Hole: *d.Hole}, "another member or a backup may have it: use "+
			"that; --up-to-hole keeps everything before the gap and gives up everything after it")
	}
	dbAlone := fmt.Sprintf("copy %s elsewhere and run `etcdpod restore --skip-hash-check COPY`, which gives up what "+
		"only the WAL has", filepath.Join(dir, "member/snap/db"))
	var bad *snapfile.Bad
	if errors.As(err, &bad) {
		hint := "a copy made while etcd was running, like kubeadm's in /etc/kubernetes/tmp, is often torn: use the " +
			"data of a stopped member, or a backup"
		if bad.Check == snapfile.CheckLog {
			hint += ". If there is none: " + dbAlone
		}
		return nil, engine.WithHint(err, hint)
	}
	if errors.Is(err, etcd.ErrNoWAL) {
		return nil, engine.Refuse("give the directory with its .wal files with --from-wal-dir. If they are lost, use "+
			"another member or a backup; if there is none: "+dbAlone,
			"the data in %s is incomplete without its WAL: %v", dir, err)
	}
	if missing := (*fs.PathError)(nil); errors.As(err, &missing) &&
		(errors.Is(err, fs.ErrNotExist) || node.IsWrongKind(err)) {
		if log := n.logAlone(dir, walDir); log != nil && log.Whole {
			return nil, engine.Refuse("start an etcd on it: it makes the db anew from the log",
				"%s has no member/snap/db, only the log, which is whole", dir)
		}
		return nil, engine.Refuse("give the directory that contains member/snap/db", "there is no etcd data "+
			"there: %s: %v", strings.TrimPrefix(missing.Path, n.FS.Real(dir)+"/"), missing.Err)
	}
	return d, err
}

// NoDB says that there is no database in an etcd's directory. One that cannot be looked at is not
// missing.
func (n *Node) NoDB(pod *EtcdPod) bool { return n.noDB(pod.DataDir) }

func (n *Node) noDB(dir string) bool {
	_, err := n.FS.Lstat(path.Join(dir, "member/snap/db"))
	return errors.Is(err, fs.ErrNotExist) || node.IsWrongKind(err)
}

// NoData says that there is neither a database nor a log.
func (n *Node) NoData(pod *EtcdPod) bool {
	return n.noDB(pod.DataDir) && !n.hasLog(pod.DataDir, pod.WALDir)
}

// LogAlone is the log of an etcd whose database is gone: etcd may make that anew. It is nil if the
// database is there, or the log is gone, too.
func (n *Node) LogAlone(pod *EtcdPod) *etcd.LogAlone { return n.logAlone(pod.DataDir, pod.WALDir) }

func (n *Node) logAlone(dir, walDir string) *etcd.LogAlone {
	if !n.noDB(dir) || !n.hasLog(dir, walDir) {
		return nil
	}
	if walDir != "" {
		walDir = n.FS.Real(walDir)
	}
	log, err := etcd.InspectLog(n.FS.Real(dir), walDir)
	if err != nil {
		return &etcd.LogAlone{} // not one that etcd could use
	}
	return log
}

func (n *Node) hasLog(dir, walDir string) bool {
	names, err := n.FS.ReadDir(cmp.Or(walDir, path.Join(dir, "member/wal")))
	return err == nil && slices.ContainsFunc(names, func(name string) bool { return path.Ext(name) == ".wal" })
}

func (n *Node) inspect(ctx context.Context, dir, walDir string) (*etcd.DataDir, error) {
	if walDir != "" {
		walDir = n.FS.Real(walDir)
	}
	d, err := etcd.Inspect(ctx, n.FS.Real(dir), walDir)
	if errors.Is(err, etcd.ErrInUse) {
		return nil, engine.Refuse("stop that etcd first", "%s is in use: %v", dir, err)
	}
	return d, err
}

// dataInUse says whether an etcd runs on the pod's data, by the lock on it and by what the
// container runtime says: between two tries to start, there is no lock.
func (n *Node) dataInUse(f *Facts) bool {
	if c := ContainerOf(f.Containers, f.Manifests, f.Etcd.File, f.Etcd.Container); c != nil && c.State == "running" {
		return true
	}
	return etcd.InUse(n.FS.Real(f.Etcd.DataDir))
}

// ObserveUse notes whether an etcd that does not answer runs all the same.
func (n *Node) ObserveUse(f *Facts) {
	f.DataInUse = f.Etcd != nil && f.Live == nil && n.dataInUse(f)
}

// An etcd in a crash loop holds its lock only for a moment, then is started again after a longer
// pause each time.
const (
	inUseTries = 10
	inUsePause = 500 * time.Millisecond
)

// Stopped reads the data of an etcd that is not serving. A *RefusedError says that it is running
// after all.
func (n *Node) Stopped(ctx context.Context, pod *EtcdPod) (*Stopped, error) {
	d, err := n.inspect(ctx, pod.DataDir, pod.WALDir)
	var inUse *engine.RefusedError
	for try := 1; try < inUseTries && errors.As(err, &inUse) && n.Clock.Sleep(ctx, inUsePause) == nil; try++ {
		d, err = n.inspect(ctx, pod.DataDir, pod.WALDir)
	}
	if err != nil {
		return nil, err
	}
	return StoppedOf(d), nil
}

// KeptClientURLs are the client URLs of the members that the data of a stopped etcd names; none
// where it cannot be read.
func (n *Node) KeptClientURLs(ctx context.Context, pod *EtcdPod) (urls []string) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d, err := n.inspect(ctx, pod.DataDir, pod.WALDir)
	if err != nil {
		return nil
	}
	for _, m := range d.Members {
		urls = append(urls, m.ClientURLs...)
	}
	return urls
}
