package backup

import (
	"cmp"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// A sidecar describes the data, and not the node on which somebody looked at it.

// whoseData names a backup after the member that a data directory is of. The data is of this node's
// cluster if it publishes this node's CA. Where that cannot be seen, it is if this node's etcd has
// left it, or serves as a member of the same cluster now.
func (f *Facts) whoseData(n *observe.Node, dir string, d *observe.Stopped, published []string) {
	name := observe.NameOf(d.Members, d.MemberID)
	own, told := f.HasCA(published)
	if !told {
		own = isOurs(n, f.Facts, node.Resolved(n.FS, dir)) || f.Live != nil && f.Live.ClusterID == d.ClusterID
	}
	if own {
		f.Node = cmp.Or(name, f.Node)
	} else {
		f.another("the data in "+dir, name)
	}
}

// another says that a backup is of something else than this node's etcd: neither the node's name
// nor its files belong to that.
func (f *Facts) another(what, name string) {
	f.Another, f.Node, f.Fingerprints = what, cmp.Or(name, "unknown"), map[string]string{}
}

func (f *Facts) ofAnother() []finding.Finding {
	if f.Another == "" {
		return nil
	}
	return []finding.Finding{finding.New(finding.BackupOfAnother, f.Backup.Dir, "nothing shows that %s is of this "+
		"node's cluster: the backup is named after its member, %s, and does not count as one of this node's",
		f.Another, f.Node)}
}
