package op

import (
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Behind is an earlier backup that holds what etcd does not hold any more.
type Behind struct {
	Path      string `json:"path"` // host path of the snapshot
	Revision  int64  `json:"revision"`
	ClusterID string `json:"clusterID"` // hex
}

// FellBack returns what an earlier backup of the node holds and etcd does not, now; the one with
// the highest revision, or nil. Revisions only grow: an etcd below one has lost its data and begun
// anew (the kubelet starts one on an empty directory), or was put back. It may overtake them, and
// then only the backups that were taken meanwhile tell: as long as what they name is there, nobody
// has said that it was intended. An etcd of another cluster may have begun anew, too. since is when
// a run of this node began the present cluster, which explains what was before; zero: no run did.
func FellBack(now Sidecar, earlier []Sidecar, since time.Time, fsys node.Reader) (most *Behind) {
	for _, s := range earlier {
		if !related(now, s) {
			continue
		}
		behind := &Behind{s.Path, s.Revision, s.ClusterID}
		if s.Revision <= now.Revision && !ofAnother(now, s, since) {
			behind = s.Behind
			if behind != nil &&
				(!s.TakenAt.After(since) || !there(fsys, behind.Path) || misled(now, *behind, earlier)) {
				behind = nil
			}
		}
		if behind != nil && (most == nil || behind.Revision > most.Revision) {
			most = behind
		}
	}
	return most
}

// misled says whether what a backup was said to hold is that of something else.
func misled(now Sidecar, b Behind, earlier []Sidecar) bool {
	return slices.ContainsFunc(earlier, func(s Sidecar) bool { return s.Path == b.Path && !related(now, s) })
}

// related is sameOrigin, and true where that is not known.
func related(now, s Sidecar) bool {
	if s.Node == "" {
		s.Node = now.Node
	}
	return sameOrigin(now, s) || now.Node == s.Node && !(isID(now.ClusterID) && isID(s.ClusterID))
}

// ofAnother says whether a backup is of another cluster than etcd is now, and no run explains that.
func ofAnother(now, s Sidecar, since time.Time) bool {
	return isID(now.ClusterID) && isID(s.ClusterID) && now.ClusterID != s.ClusterID && s.TakenAt.After(since)
}

func isID(cluster string) bool { return cluster != "" && cluster != "0" }

func there(fsys node.Reader, name string) bool {
	_, err := fsys.Lstat(name)
	return err == nil
}
