package observe

import (
	"path"
	"strings"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// Within says whether a directory is outer, or lies below it.
func Within(dir, outer string) bool {
	return outer != "" && Overlap(dir, outer) && len(path.Clean(dir)) >= len(path.Clean(outer))
}

// Components are the programs of a kubeadm control plane that must not run while etcd's data is
// replaced: etcd and the API server because they would use the data, controller-manager and
// scheduler because their leader leases outlast a short outage and they would go on acting on state
// that is being discarded.
func Components() []string {
	return []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}
}

// Involved says whether a manifest must not run while one of the data directories is replaced: it
// runs a component, or a proxy in front of etcd, or mounts one of the directories.
func Involved(m *manifests.Manifest, dataDirs ...string) bool {
	for _, program := range Components() {
		if _, ok := m.Runs(program); ok {
			return true
		}
	}
	if m.Proxies() { // it would go on telling what the old data said
		return true
	}
	for _, h := range m.HostPaths() {
		for _, dir := range dataDirs {
			if len(h.Mounts) > 0 && Overlap(h.Path, dir) {
				return true
			}
		}
	}
	return false
}

// Overlap says whether one directory is the other, or contains it. The root does not count: a pod
// that mounts the whole host, such as a node agent, does not mean to use etcd's data.
func Overlap(a, b string) bool {
	a, b = path.Clean(a), path.Clean(b)
	return a != "/" && (a == b || strings.HasPrefix(a+"/", b+"/") || strings.HasPrefix(b+"/", a+"/"))
}

// IsAPIServer says whether a manifest runs kube-apiserver; one that cannot be read does not.
func IsAPIServer(m ManifestFile) bool {
	if m.Manifest == nil {
		return false
	}
	_, ok := m.Manifest.Runs("kube-apiserver")
	return ok
}

// HasAPIServer says whether this node's kubelet runs an API server from a manifest.
func HasAPIServer(f *Facts) bool {
	for _, m := range f.Manifests {
		if IsAPIServer(m) {
			return true
		}
	}
	return false
}

// OtherPrefix notes that Kubernetes' objects are not where etcdpod looks for them: below
// /registry/, kube-apiserver's default --etcd-prefix.
func (f *Facts) OtherPrefix() []finding.Finding {
	m, container, ok := Program(f.Manifests, "kube-apiserver")
	if !ok {
		return nil
	}
	prefix := strings.Trim(FlagOf(m, container, "etcd-prefix"), "/")
	if prefix == "" || prefix == "registry" {
		return nil
	}
	return []finding.Finding{finding.New(finding.APIServerPrefix, m.Path, "the API server keeps its objects below /%s "+
		"(--etcd-prefix in %s), and etcdpod looks below /registry only: it counts no objects, and checks neither "+
		"whether a snapshot's CA, service-account keys and encryption fit this node, nor for API servers that are gone",
		prefix, m.Path)}
}

// InvolvedText is [Involved] for the text of a manifest file. The kubelet runs more than etcdpod
// can edit, so its reading counts; a pod of which nothing can be told is involved. What the kubelet
// does not take for a pod is not.
func InvolvedText(manifest []byte, dataDirs []string) bool {
	m, err := manifests.Parse(manifest)
	if err == nil {
		return Involved(m, dataDirs...)
	}
	m, pod := manifests.Decoded(manifest)
	return pod && (m == nil || Involved(m, dataDirs...))
}
