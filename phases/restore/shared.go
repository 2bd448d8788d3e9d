package restore

import (
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// Shared is what makes the restores on several nodes one: the same on each, settled by the
// coordinator after it has seen them all. The methods answer for a restore on one node,
// too, where it is nil.
type Shared struct {
	Cluster journal.Cluster
	Members []SharedMember // of the restored cluster, in the order in which they are started
	// That join it afterwards, one after the other, with nothing of their own.
	Rejoin  []SharedMember
	Through []string // client URLs of the member that they join through
	// Peer URLs of old members that are left out, where those could be a quorum of the old cluster.
	Left          []string
	Snapshot      SnapshotFacts // Path is where the coordinator has it
	KnownRevision int64         // the highest that any node knows of
	// The one node that does what must be done once only: it has an API server.
	Leader string
	Made   bool // the snapshot is made from a data directory, in the run
	// Peer URLs of the cluster that is replaced; nobody may answer there while it is.
	OldURLs []string
	// Of the members of the cluster that is replaced, and of the snapshot's.
	OldHosts   []string
	ClientURLs []string // of the restored cluster's members
	// This node gets the snapshot from the coordinator, into the run's folder.
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

// restores says whether etcd on the node gets the restored data.
func (o restorer) restores(f *Facts) bool { return f.Etcd != nil && !o.rejoins(f) }

// rejoins says whether etcd on the node joins the restored cluster afterwards.
func (o restorer) rejoins(f *Facts) bool {
	return f.Etcd != nil && o.Shared != nil &&
		slices.ContainsFunc(o.Shared.Rejoin, func(m SharedMember) bool { return m.Name == f.Etcd.Name })
}

// initialCluster is etcd's --initial-cluster: a name stands once for each of its URLs.
func initialCluster(members []SharedMember) string {
	var pairs []string
	for _, m := range members {
		for _, url := range m.PeerURLs {
			pairs = append(pairs, m.Name+"="+url)
		}
	}
	return strings.Join(pairs, ",")
}
