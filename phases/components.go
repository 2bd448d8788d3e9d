package phases

import (
	"path"
	"strings"

	"github.com/etcdpod/etcdpod/manifests"
)

// components are the programs of a kubeadm control plane that must not run while etcd's data is replaced: etcd and the API server because they would use it,
// controller-manager and scheduler because their leader leases outlast a short outage, and they would go on acting on a future that is discarded.
func components() []string {
	return []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}
}

// involved says whether a manifest must not run while one of the data directories is replaced: it runs a component, or mounts one of the directories.
func involved(m *manifests.Manifest, dataDirs ...string) bool {
	for _, program := range components() {
		if _, ok := m.Runs(program); ok {
			return true
		}
	}
	for _, h := range m.HostPaths() {
		for _, dir := range dataDirs {
			if len(h.Mounts) > 0 && overlap(h.Path, dir) {
				return true
			}
		}
	}
	return false
}

// overlap says whether one directory is the other, or holds it. The root is left out: whatever mounts all of the host (a node's agent) is not etcd's.
func overlap(a, b string) bool {
	a, b = path.Clean(a), path.Clean(b)
	return a != "/" && (a == b || strings.HasPrefix(a+"/", b+"/") || strings.HasPrefix(b+"/", a+"/"))
}

func isAPIServer(m ManifestFile) bool {
	if m.Manifest == nil {
		return false
	}
	_, ok := m.Manifest.Runs("kube-apiserver")
	return ok
}

func hasAPIServer(f *Facts) bool {
	for _, m := range f.Manifests {
		if isAPIServer(m) {
			return true
		}
	}
	return false
}

// involvedText says the same of a file's text; one that cannot be read as a pod is not involved.
func involvedText(manifest []byte, dataDirs []string) bool {
	m, err := manifests.Parse(manifest)
	return err == nil && involved(m, dataDirs...)
}
