package workflows

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// state is what wholly old and wholly new are judged by.
type state struct {
	keys      map[string]string
	cluster   uint64
	revision  int64
	manifests map[string]string
}

func (n *node) state() state {
	n.t.Helper()
	cluster, revision := n.header()
	return state{n.keys(), cluster, revision, n.manifests()}
}

// wantOld holds the node to what it was before.
func (n *node) wantOld(before state) {
	n.t.Helper()
	n.ready()
	now := n.state()
	if diff := sandbox.Diff(before.keys, now.keys); len(diff) > 0 {
		n.t.Errorf("not wholly old: %v", diff)
	}
	if now.cluster != before.cluster {
		n.t.Errorf("not wholly old: the cluster was %x and is %x", before.cluster, now.cluster)
	}
	n.wantManifests(before.manifests)
	n.wantAllRunning()
}

// wantNew holds the node to a backup, after before.
func (n *node) wantNew(b backup, before state) {
	n.t.Helper()
	n.ready()
	now := n.state()
	if diff := sandbox.Diff(b.keys, now.keys); len(diff) > 0 {
		n.t.Errorf("not wholly new: %v", diff)
	}
	if now.cluster == before.cluster {
		n.t.Errorf("not wholly new: the cluster is %x as before", now.cluster)
	}
	if now.revision <= before.revision {
		n.t.Errorf("revisions went back from %d to %d", before.revision, now.revision)
	}
	n.wantManifests(before.manifests)
	n.wantAllRunning()
}

func (n *node) wantManifests(want map[string]string) {
	n.t.Helper()
	now := n.manifests()
	for name := range want {
		if now[name] != want[name] {
			n.t.Errorf("the manifest %s was\n%s\nand is\n%s", name, want[name], now[name])
		}
	}
	for name := range now {
		if _, ok := want[name]; !ok {
			n.t.Errorf("%s was left among the manifests", name)
		}
	}
}

// wantAllRunning waits until every manifest's container runs, once.
func (n *node) wantAllRunning() {
	n.t.Helper()
	if !n.kubeletRuns() {
		n.t.Error("the kubelet does not run")
	}
	var want []string
	for name := range n.manifests() {
		want = append(want, strings.TrimSuffix(name, ".yaml"))
	}
	slices.Sort(want)
	var got []string
	n.eventually(fmt.Sprintf("all of %v run", want), func() bool {
		got = nil
		for _, c := range n.running() {
			name, _, _ := strings.Cut(c, " ")
			got = append(got, name)
		}
		return slices.Equal(got, want)
	})
}

// tree is a checksum of everything below the root that nobody may touch. Left out are what live
// processes write all the time (of etcd's data the names alone count), sockets and logs, and
// etcdpod's lock, which names its last holder.
func (n *node) tree() map[string]string {
	n.t.Helper()
	sums := map[string]string{}
	err := filepath.WalkDir(n.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		host := strings.TrimPrefix(path, n.Root)
		switch {
		case host == "/run" || host == "/var/log" || host == "/var/lib/kubelet" || host == "/var/lib/containerd":
			return fs.SkipDir
		case host == "/var/lib/etcdpod/lock" || slices.Contains(n.unreadable, host):
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum := fmt.Sprintf("%v", info.Mode())
		if d.Type().IsRegular() && !strings.HasPrefix(path, n.DataPath()+"/") {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum += fmt.Sprintf(" %x", sha256.Sum256(data))
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			sum += " " + target
		}
		sums[host] = sum
		return nil
	})
	must(n.t, err)
	// The lock's folder comes with the lock.
	delete(sums, "/var/lib/etcdpod")
	return sums
}

// untouched runs something that must leave the node alone: same files, same
// containers, same kubelet.
func (n *node) untouched(do func()) {
	n.t.Helper()
	files, containers, kubelet := n.tree(), n.running(), n.kubeletRuns()
	do()
	if now := n.running(); !slices.Equal(now, containers) {
		n.t.Errorf("other containers run: before %v, now %v", containers, now)
	}
	if now := n.kubeletRuns(); now != kubelet {
		n.t.Errorf("the kubelet ran: %v, and runs: %v", kubelet, now)
	}
	now := n.tree()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if now[name] != files[name] {
			n.t.Errorf("%s was touched: before %q, now %q", name, files[name], now[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if _, ok := files[name]; !ok {
			n.t.Errorf("%s is new", name)
		}
	}
}

// untouchedBut is untouched with files aside that cannot be read.
func (n *node) untouchedBut(files []string, do func()) {
	n.t.Helper()
	n.unreadable = files
	n.untouched(do)
	n.unreadable = nil
}

// shell runs a command line.
func shell(ctx context.Context, line string) error {
	return exec.CommandContext(ctx, "sh", "-c", line).Run()
}
