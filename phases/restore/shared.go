package restore

import (
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// Shared is what turns the restores on several nodes into one. It is the same on each, settled by
// the coordinator after surveying them all. It is nil for a restore on one node; the methods cover
// that.
type Shared struct {
	Cluster journal.Cluster
	Members []SharedMember // of the restored cluster, in the order of their start
	// Members that join afterwards, one by one, with no data of their own.
	Rejoin  []SharedMember
	Through []string // client URLs of the member that they join through
	// Peer URLs of the old members left out, where those could be a quorum of the old cluster.
	Left          []string
	Snapshot      SnapshotFacts // Path is the coordinator's
	KnownRevision int64         // the highest that any node knows of
	// The node that does what must be done only once; it has an API server.
	Leader string
	Made   bool // the run makes the snapshot from a data directory
	// Peer URLs of the cluster being replaced; nobody may answer there during the exchange.
	OldURLs []string
	// Hosts of the members of the cluster being replaced, and of the snapshot's members.
	OldHosts   []string
	ClientURLs []string // of the restored cluster's members
	// The coordinator sends this node the snapshot, into the run's folder.
	Sent bool
}

// SharedMember is a member of the cluster that several nodes restore.
type SharedMember struct {
	Name     string
	PeerURLs []string
}

func (j *Shared) sends() bool { return j != nil && j.Sent }

func (j *Shared) made() bool { return j != nil && j.Made }

func (j *Shared) leads(node string) bool { return j == nil || j.Leader == node }

func (j *Shared) members() int {
	if j == nil {
		return 1
	}
	return len(j.Members)
}

// restores says whether this node's etcd gets the restored data.
func (o restorer) restores(f *Facts) bool { return f.Etcd != nil && !o.rejoins(f) }

// rejoins says whether this node's etcd joins the restored cluster afterwards.
func (o restorer) rejoins(f *Facts) bool {
	return f.Etcd != nil && o.Shared != nil &&
		slices.ContainsFunc(o.Shared.Rejoin, func(m SharedMember) bool { return m.Name == f.Etcd.Name })
}

// initialCluster is etcd's --initial-cluster, which repeats a name for each of its URLs.
func initialCluster(members []SharedMember) string {
	var pairs []string
	for _, m := range members {
		for _, url := range m.PeerURLs {
			pairs = append(pairs, m.Name+"="+url)
		}
	}
	return strings.Join(pairs, ",")
}
