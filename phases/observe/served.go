package observe

import (
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Served is what serves now, and must serve again if a run goes back that stops some of it: etcd
// where it answers, the API server where it is ready, and of their pods what runs.
func (f *Facts) Served(ready bool, limit time.Duration) *op.Before {
	var stops []ManifestFile
	var pods []op.Pod
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if m, c, ok := Program(f.Manifests, name); ok {
			stops, pods = append(stops, m), append(pods, PodOf(f.Manifests, m, c))
		}
	}
	b := &op.Before{Pods: pods, Limit: limit, Start: StartLimits(stops...),
		EtcdPod: Watched(f.Manifests, "etcd").Pod, APIPod: Watched(f.Manifests, "kube-apiserver").Pod}
	if f.Live != nil {
		b.Etcd = &f.Etcd.Access
	}
	if ready {
		b.API = &f.API
	}
	return b
}
