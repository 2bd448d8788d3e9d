package backup

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// kubeadmCopies begins the name that kubeadm gives to the copy that it makes of the data while etcd
// runs, before an upgrade (cmd/kubeadm/app/phases/upgrade/staticpods.go).
const kubeadmCopies = "kubeadm-backup-etcd"

// Copied says in a sentence what a data directory that a person names may lack because it may be a
// copy that was made while etcd ran. It is empty for what this node's own etcd left when it
// stopped. pending is the number of raft entries that only its log has.
func Copied(n *observe.Node, f *observe.Facts, dir string, pending int) string {
	at := node.Resolved(n.FS, dir)
	beyond := ""
	if pending > 0 {
		beyond = fmt.Sprintf(" The log goes beyond the db, and its last %d entries are in the snapshot.", pending)
	}
	switch {
	case strings.Contains(at, "/"+kubeadmCopies):
		return "kubeadm made this copy while etcd was running: anything written during or after the copy is not in " +
			"the snapshot." + beyond
	case isOurs(n, f, at):
		return ""
	}
	return fmt.Sprintf("Nothing shows whether etcd was stopped when the data in %s was copied. If it was running, "+
		"anything written during or after the copy is not in the snapshot.%s", dir, beyond)
}

// isOurs recognizes the data directory of this node's etcd, and data that a run keeps. Links in the
// path are followed already.
func isOurs(n *observe.Node, f *observe.Facts, at string) bool {
	is := func(dir string) bool { return at == node.Resolved(n.FS, dir) }
	if slices.ContainsFunc(ownDirs(f), is) || observe.Within(at, node.Resolved(n.FS, journal.RunsDir)) {
		return true
	}
	runs, err := journal.List(n.FS)
	if err != nil {
		return false
	}
	for _, r := range runs {
		if strings.Contains(at+"/", "/"+journal.HiddenDir(r.ID)+"/") {
			return true
		}
		if r.State == nil || r.State.Outcome() != journal.Completed {
			continue
		}
		if kept := r.State.Run.Notes[journal.NoteKeptData]; path.IsAbs(kept) && at == node.Resolved(n.FS, kept) {
			return true
		}
	}
	return false
}

// ownDirs are where this node's etcd has its data, or may have it.
func ownDirs(f *observe.Facts) []string {
	if f.Etcd != nil {
		return []string{f.Etcd.DataDir}
	}
	if volumes := observe.EtcdVolumes(f.Manifests); len(volumes) > 0 {
		return volumes // its manifest does not tell which
	}
	return []string{observe.KubeadmDataDir} // its manifest was moved away, to stop it
}
