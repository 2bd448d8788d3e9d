package restore

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

func (o restorer) fenceOf(f *Facts) op.Fence {
	fence := op.Fence{ManifestDir: f.ManifestDir, Parking: parkingDir(f), Mounts: o.mounts(f), Timeout: o.StopTimeout}
	for _, m := range o.fenced(f) {
		fence.Pods = append(fence.Pods, observe.PodOf(f.Manifests, m, m.Manifest.Containers()...))
	}
	if f.Etcd == nil { // an API server whose etcd runs on other nodes
		return fence
	}
	for _, dir := range []string{f.Etcd.DataDir, o.liveDir(f), stagedDir(f)} {
		if !slices.Contains(fence.DataDirs, dir) {
			fence.DataDirs = append(fence.DataDirs, dir)
			fence.Databases = append(fence.Databases, path.Join(dir, "member/snap/db"))
		}
	}
	// It may be a link to the first: one database, one lock.
	if !slices.Contains(fence.DataDirs, f.Etcd.DataPath) {
		fence.DataDirs = append(fence.DataDirs, f.Etcd.DataPath)
	}
	if f.Etcd.WALDir != "" {
		fence.DataDirs = append(fence.DataDirs, f.Etcd.WALDir)
	}
	return fence
}

// mounts are the directories that no static pod may mount during the exchange.
func (o restorer) mounts(f *Facts) []string {
	if f.Etcd == nil {
		return nil
	}
	dirs := []string{f.Etcd.DataPath, f.Etcd.DataDir, o.liveDir(f)}
	if f.Etcd.WALDir != "" {
		dirs = append(dirs, f.Etcd.WALDir)
	}
	return slices.Compact(dirs)
}

// fenced lists the manifests whose pods must not run during the exchange.
func (o restorer) fenced(f *Facts) []observe.ManifestFile {
	var files []observe.ManifestFile
	for _, m := range f.Manifests {
		if m.Manifest != nil && observe.Involved(m.Manifest, o.mounts(f)...) {
			files = append(files, m)
		}
	}
	return files
}

// before is what is awaited if the run goes back. What a person gives etcd to serve the new data
// may be too short for the old.
func (o restorer) before(f *Facts) *op.Before {
	size := f.Snapshot.Proof.SizeBytes
	if f.Live != nil {
		size = max(size, f.Live.SizeBytes)
	}
	b := &op.Before{Pods: o.fenceOf(f).Pods, Limit: max(o.waitLimit(size), restorer{}.waitLimit(size)),
		Start: observe.StartLimits(o.fenced(f)...), EtcdPod: f.watched("etcd").Pod,
		APIPod: f.watched("kube-apiserver").Pod}
	if f.EtcdServes {
		b.Etcd = &f.Etcd.Access
	}
	if f.APIReady {
		b.API = &f.API
	}
	return b
}

func (o restorer) fence() phase {
	return phase{Name: "fence", Short: "make sure that nothing runs on the old data",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			ops := []op.Op{
				&op.MakeDirectory{Path: parkingDir(f), Attr: node.Mine(0o700)},
				&op.StopKubelet{Before: o.before(f)},
			}
			for _, m := range o.fenced(f) {
				ops = append(ops, &op.TakeOutManifest{From: m.Path,
					To: parked(f, m), SHA256: fmt.Sprintf("%x", sha256.Sum256(m.Data))})
			}
			return append(ops, &op.StopContainers{Fence: o.fenceOf(f)}), nil
		}}
}
