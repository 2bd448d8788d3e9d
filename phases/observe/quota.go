package observe

import (
	"strconv"

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

// StartLimit is how long the kubelet lets etcd start; nil if nothing limits it.
func (p *EtcdPod) StartLimit() *op.StartLimit {
	limit, probe := p.File.Manifest.StartLimit(p.Container)
	if probe == "" {
		return nil
	}
	return &op.StartLimit{Limit: limit, Probe: probe, Manifest: p.File.Path}
}
