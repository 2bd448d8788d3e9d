package observe

import (
	"path"
	"strconv"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// QuotaSetting is etcd's name for it.
const QuotaSetting = "quota-backend-bytes"

// Quota is the size of its database, in bytes, at which etcd takes no more writes; 0: it has no
// quota. What etcd reports itself, from 3.6 on, is the same.
func (p *EtcdPod) Quota() int64 {
	const preset = 2 << 30 // etcd, server/storage/quota.go
	q, err := strconv.ParseInt(p.Setting("", QuotaSetting), 10, 64)
	switch {
	case err != nil || q == 0:
		return preset
	case q < 0:
		return 0
	}
	return q
}

// NearQuota says whether a size is so near the quota that a person should know.
func NearQuota(size, quota int64) bool { return size >= quota/100*80 }

// QuotaFor is a quota that leaves a database of that size room to double, in whole gigabytes.
func QuotaFor(size int64) int64 {
	const gigabyte = 1 << 30
	return (2*size + gigabyte - 1) / gigabyte * gigabyte
}

// StartLimit is how long the kubelet lets a container start; nil if nothing limits it.
func StartLimit(m ManifestFile, container string) *op.StartLimit {
	limit, probe := m.Manifest.StartLimit(container)
	if probe == "" {
		return nil
	}
	return &op.StartLimit{Limit: limit, Probe: probe, Manifest: m.Path}
}

// StartLimits are those of all containers of some manifests, by the containers' names.
func StartLimits(files ...ManifestFile) map[string]*op.StartLimit {
	all := map[string]*op.StartLimit{}
	for _, m := range files {
		for _, name := range m.Manifest.Containers() {
			if l := StartLimit(m, name); l != nil {
				all[name] = l
			}
		}
	}
	return all
}

// Watched is the container of a program that a wait waits for; of nothing, if no manifest runs it.
func Watched(files []ManifestFile, program string) op.Watched {
	m, container, ok := Program(files, program)
	if !ok {
		return op.Watched{}
	}
	return WatchedIn(files, m, container)
}

// WatchedIn is [Watched] for a container of a manifest.
func WatchedIn(files []ManifestFile, m ManifestFile, container string) op.Watched {
	return op.WatchedIn(PodOf(files, m, container), StartLimit(m, container))
}

// SlowStart warns where the kubelet may kill etcd while it loads data of that size.
func (p *EtcdPod) SlowStart(size int64) []finding.Finding {
	l := StartLimit(p.File, p.Container)
	if l == nil || l.Limit >= loadTime(size) {
		return nil
	}
	return []finding.Finding{finding.New(finding.StartLimit, l.Manifest, "the kubelet kills etcd if it does not "+
		"serve within %s (%s in %s), but with %s it may take %s: first raise %s.failureThreshold there", l.Limit,
		l.Probe, l.Manifest, engine.Size(size), loadTime(size), l.Probe)}
}

// loadTime is how long etcd may take to load data of that size, and to compare it with its peers',
// on a slow machine: four times what was measured (docs/failure-model.md).
func loadTime(sizeBytes int64) time.Duration {
	const gigabyte = 1 << 30
	return (10*time.Second + time.Duration(float64(sizeBytes)/gigabyte*float64(80*time.Second))).Round(time.Second)
}

// SizeOf is how large the database of this node's etcd is, also of one that does not serve; 0: not
// known.
func (n *Node) SizeOf(f *Facts) int64 {
	switch {
	case f.Live != nil:
		return f.Live.SizeBytes
	case f.Etcd == nil:
		return 0
	}
	st, err := n.FS.Lstat(path.Join(f.Etcd.DataDir, "member/snap/db"))
	if err != nil {
		return 0
	}
	return st.Size
}
