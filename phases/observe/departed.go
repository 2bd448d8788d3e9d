package observe

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Departure is that the member of a node has left its cluster for good: etcd never takes its id
// again, so what would run it is missing as it should be.
type Departure struct {
	Run    string // the run that removed it; empty: somebody has done that
	Member string // its id, where no run tells
	Data   string // where its data still is; empty: nowhere
}

func (d *Departure) String() string {
	if d.Run == "" {
		return fmt.Sprintf("its member %s was removed from the cluster", d.Member)
	}
	return fmt.Sprintf("its member was removed from the cluster by run %s", d.Run)
}

// Next is what to do with the node. Its old manifest would start an etcd that exits at once, again
// and again.
func (d *Departure) Next() string {
	if d.Data == "" {
		return "run `kubeadm reset` here; or, to bring it back as a new member, run `etcdpod join` here"
	}
	return op.LeaveOrJoin("", d.Data)
}

// readDeparted is how long reading what a member has left may take.
const readDeparted = 10 * time.Second

// Departed says whether the member of a node without etcd's manifest has left its cluster; nil: it
// has not, or nothing tells. lacks says that an etcd ought to run here: only then is it worth
// reading the data that lies there.
func (n *Node) Departed(ctx context.Context, files []ManifestFile, lacks bool) *Departure {
	run, stop, found := engine.LastDone(n.FS, func(s *op.StopMember) string { return s.From })
	if found && !n.Exists(stop.From) {
		if d := n.departedByRun(ctx, files, run, stop); d != nil {
			return d
		}
	}
	if !lacks || n.noDB(KubeadmDataDir) {
		return nil
	}
	return n.departedByData(ctx, files)
}

// departedByData reads what a member has left: it may know of its own removal, or else the others
// do not know it any more. Data of an earlier member says nothing about a node that they list.
func (n *Node) departedByData(ctx context.Context, files []ManifestFile) *Departure {
	limited, cancel := context.WithTimeout(ctx, readDeparted)
	defer cancel()
	data, err := n.inspect(limited, KubeadmDataDir, "")
	if err != nil {
		return nil
	}
	cluster, members := n.askAround(ctx, files, data)
	name := n.NameOf(nil)
	listed := slices.ContainsFunc(members, func(m etcd.Member) bool { return m.ID == data.MemberID || m.Name == name })
	if listed || !data.Removed && cluster != data.ClusterID {
		return nil
	}
	return &Departure{Member: fmt.Sprintf("%x", data.MemberID), Data: KubeadmDataDir}
}

// departedByRun asks the others first: the node may have been set up again since. Where nobody
// answers, it was not if nothing has written to its data after the run.
func (n *Node) departedByRun(
	ctx context.Context, files []ManifestFile, run engine.RunSummary, stop *op.StopMember,
) *Departure {
	dir, wal := KubeadmDataDir, ""
	if pod := n.podOf(stop.To); pod != nil {
		dir, wal = pod.DataDir, pod.WALDir
	}
	cluster, members := n.askAround(ctx, files, nil)
	again := slices.ContainsFunc(members, func(m etcd.Member) bool { return m.Name == run.Node })
	if again || cluster == 0 && n.writtenSince(run.Last, dir, wal) {
		return nil
	}
	d := &Departure{Run: run.ID}
	if n.Exists(path.Join(dir, "member")) {
		d.Data = (&EtcdPod{DataDir: dir, WALDir: wal}).allData()
	}
	return d
}

// podOf is the etcd of a manifest that was taken out; nil when that cannot be read any more.
func (n *Node) podOf(file string) *EtcdPod {
	text, err := n.FS.ReadFile(file)
	if err != nil {
		return nil
	}
	read, err := manifests.Parse(text)
	if err != nil {
		return nil
	}
	pod, _ := n.EtcdPod([]ManifestFile{{Path: file, Data: text, Manifest: read}})
	return pod
}

// writtenSince says whether an etcd has written to its files after some time.
func (n *Node) writtenSince(at time.Time, dir, wal string) bool {
	if wal == "" {
		wal = path.Join(dir, "member/wal")
	}
	all := []string{path.Join(dir, "member/snap/db")}
	names, _ := n.FS.ReadDir(wal)
	for _, name := range names {
		all = append(all, path.Join(wal, name))
	}
	return slices.ContainsFunc(all, func(file string) bool {
		st, err := n.FS.Lstat(file)
		return err == nil && st.ModTime.After(at)
	})
}

// askAround asks the etcds that this node's API server uses, and those that a member's data names,
// for their cluster and its members; 0 when none answers.
func (n *Node) askAround(ctx context.Context, files []ManifestFile, data *etcd.DataDir) (uint64, []etcd.Member) {
	var urls []string
	if m, c, ok := Program(files, "kube-apiserver"); ok {
		urls = EtcdServers(m, c)
	}
	if data != nil {
		for _, m := range data.Members {
			if m.ID != data.MemberID {
				urls = append(urls, m.ClientURLs...)
			}
		}
	}
	if len(urls) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askOthers)
	defer cancel()
	client, err := bind.NewDialer(n.FS).Dial(ctx, n.ClientAt(files, urls...))
	if err != nil {
		return 0, nil
	}
	defer client.Close()
	members, err := client.Members(ctx)
	if err != nil {
		return 0, nil
	}
	for _, s := range client.Status(ctx) {
		if s.Err == nil {
			return s.ClusterID, members
		}
	}
	return 0, nil
}
