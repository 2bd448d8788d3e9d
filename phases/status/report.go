package status

import (
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/rehearse"
)

// Options are what a person may ask of `status`.
type Options struct {
	// Where backups are looked for (host path); empty: where the last good one was kept.
	BackupDir string
	// How old the newest one may be; 0: none is meant to be taken on this node.
	MaxBackupAge time.Duration
	// What an earlier look has read of etcd's figures, so that this one need not wait; nil:
	// nothing.
	Last *observe.Figures
	// The same for several nodes, by their names.
	LastOf map[string]*observe.Figures `json:"-"`
}

// Status is what `status` shows. The JSON names are stable.
type Status struct {
	Node         string             `json:"node"`
	ManifestDir  string             `json:"manifestDir"`
	Manifests    []ManifestStatus   `json:"manifests"`
	Kubelet      string             `json:"kubelet"` // running, stopped, or why that is unknown
	Runtime      string             `json:"runtime"` // ok, or why it cannot be asked
	Member       *MemberStatus      `json:"member,omitempty"`
	Problem      string             `json:"problem,omitempty"` // why etcd cannot be asked
	Members      []observe.Member   `json:"members"`
	Quorum       *Quorum            `json:"quorum,omitempty"`
	Pace         *Pace              `json:"pace,omitempty"` // what etcd did while it was watched
	Alarms       []string           `json:"alarms"`
	Certificates []certs.Status     `json:"certificates"`
	NewestBackup *backup.Entry      `json:"newestBackup,omitempty"`
	Rehearsal    *rehearse.Brief    `json:"rehearsal,omitempty"` // the newest one
	OpenRun      *engine.RunSummary `json:"openRun,omitempty"`
	Warnings     []string           `json:"warnings"` // what is wrong: exit code 6
	Findings     []finding.Finding  `json:"findings"` // the same warnings, for programs
	Next         string             `json:"next"`     // the next thing to do
	last         *observe.Figures
}

// Last are the figures of etcd that were read last, for the next look; nil: none were.
func (s Status) Last() *observe.Figures { return s.last }

// WithoutEtcd says whether no etcd is meant to run on the node: its member was removed, or its API
// server uses etcds on other nodes.
func (s Status) WithoutEtcd() bool {
	return s.Member == nil && s.Problem == "" && s.OpenRun == nil &&
		!slices.ContainsFunc(s.Manifests, func(m ManifestStatus) bool { return m.Pod == "etcd" || m.Problem != "" }) &&
		!slices.ContainsFunc(s.Findings, func(f finding.Finding) bool {
			return f.Code == finding.EtcdManifestMissing || f.Code == finding.EtcdManifestUnusable ||
				f.Code == finding.NotControlPlane
		})
}

// ManifestStatus is one file in the static-pod directory, with the containers that run from it.
type ManifestStatus struct {
	Path       string            `json:"path"`
	Pod        string            `json:"pod,omitempty"`
	Image      string            `json:"image,omitempty"`
	Containers []ContainerStatus `json:"containers"`
	Problem    string            `json:"problem,omitempty"`
}

// ContainerStatus is the newest container of a name.
type ContainerStatus struct {
	Name    string    `json:"name"`
	State   string    `json:"state" values:"created,running,exited,unknown"`
	Attempt uint32    `json:"attempt"`
	Since   time.Time `json:"since"`
	Ended   string    `json:"ended,omitempty"` // why it ended, if anything tells
}

// MemberStatus is the local etcd.
type MemberStatus struct {
	Endpoint       string `json:"endpoint"`
	ID             string `json:"id"`        // hex
	ClusterID      string `json:"clusterID"` // hex
	Name           string `json:"name"`
	Version        string `json:"version"`
	StorageVersion string `json:"storageVersion,omitempty"`
	Leader         bool   `json:"leader"`
	Learner        bool   `json:"learner"`
	NoQuorum       bool   `json:"noQuorum,omitempty"` // it answers, and serves nobody
	Revision       int64  `json:"revision"`
	RaftApplied    int64  `json:"raftApplied"`         // the last log entry in its data
	Downgrade      string `json:"downgrade,omitempty"` // the version of a downgrade that is enabled
	SizeBytes      int64  `json:"sizeBytes"`
	InUseBytes     int64  `json:"inUseBytes"`
	QuotaBytes     int64  `json:"quotaBytes,omitempty"`
	// How it was compared with the other members, at no cost; left out where it was not.
	Compared *Compared `json:"compared,omitempty"`
}

// Compared is a member's HashKV as of a revision that all members have compacted to.
type Compared struct {
	HashKV          string   `json:"hashKV,omitempty"` // hex; left out where it is not comparable
	HashRevision    int64    `json:"hashRevision,omitempty"`
	CompactRevision int64    `json:"compactRevision,omitempty"` // comparable are hashes of the same
	Members         int      `json:"members"`                   // how many were comparable
	NotCompared     []string `json:"notCompared"`               // why others were not
}
