package restore

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Whether what the fence stops can start again, and with the new data: the checks and doubts of
// preflight that are about the time after the exchange.

// checkStarts is about etcd and the API server, without which there is no restore, and about what
// runs now. What is down anyway must not stand in the way of a restore in a disaster: it is a note.
func (o restorer) checkStarts(f *Facts) error {
	must, _ := o.mustStart(f)
	if err := f.CheckStarts(must...); err != nil {
		return err
	}
	return f.CheckCertificates(must...)
}

// mustStart parts what is fenced into what must run afterwards, and what did not run before either.
func (o restorer) mustStart(f *Facts) (must, others []observe.ManifestFile) {
	for _, m := range o.fenced(f) {
		pod := observe.PodOf(f.Manifests, m, m.Manifest.Containers()...)
		runs := slices.ContainsFunc(f.Containers, func(c node.Container) bool {
			return c.State == "running" && pod.Owns(c)
		})
		if runs || observe.IsAPIServer(m) || f.Etcd != nil && m.Path == f.Etcd.File.Path {
			must = append(must, m)
		} else {
			others = append(others, m)
		}
	}
	return must, others
}

// checkQuota refuses data that fills the whole quota: etcd would serve it, and take no write.
func checkQuota(f *Facts) error {
	if f.Etcd == nil {
		return nil
	}
	quota, size := f.Etcd.Quota(), f.Snapshot.Proof.SizeBytes
	if quota == 0 || size < quota {
		return nil
	}
	as, file := f.Etcd.Source(observe.QuotaSetting, strconv.FormatInt(observe.QuotaFor(size), 10))
	return engine.Refuse(fmt.Sprintf("raise the quota: set %s in %s (on every member), and run the command again",
		as, file),
		"the data takes %s, but etcd's quota is %s: etcd would refuse every write",
		engine.Size(size), engine.Size(quota))
}

// doubts are for the person who decides: what may go wrong, and what could not be found out.
func (o restorer) doubts(f *Facts) []finding.Finding {
	doubts := f.StartDoubts(o.fenced(f)...)
	_, others := o.mustStart(f)
	doubts = append(doubts, f.ObstaclesOf(others...)...)
	size := f.Snapshot.Proof.SizeBytes
	if quota := f.Etcd.Quota(); quota > 0 && observe.NearQuota(size, quota) {
		as, file := f.Etcd.Source(observe.QuotaSetting, strconv.FormatInt(observe.QuotaFor(size), 10))
		doubts = append(doubts, finding.New(finding.EtcdQuota, f.Etcd.Name, "the data fills %d%% of etcd's quota of "+
			"%s: raise it soon: %s in %s", 100*size/quota, engine.Size(quota), as, file))
	}
	doubts = append(doubts, f.Etcd.SlowStart(size)...)
	if f.EtcdVersion() == "" && f.Snapshot.StorageVersion != "" {
		doubts = append(doubts, finding.New(finding.EtcdVersionUnknown, f.Etcd.Image, "the version of etcd in %s is "+
			"unknown: neither its name nor the container runtime shows it, and no etcd runs here that does. The data "+
			"is from etcd %s: do not run an older etcd on it", f.Etcd.Image, f.Snapshot.StorageVersion))
	}
	return doubts
}
