package observe

import (
	"context"
	"fmt"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// etcdVariables is how the variables begin that etcd reads (pkg/flags: SetFlagsFromEnv).
const etcdVariables = "ETCD_"

// needs are the programs whose manifests must say everything, and the variables that they read.
func needs() map[string][]string {
	return map[string][]string{"etcd": {etcdVariables}, "kube-apiserver": nil}
}

// resolved returns the manifests with the values that their variables have in the containers, where
// those come from elsewhere: from the pod's status, say. What no container tells stays unknown; see
// [Unresolved].
func (n *Node) resolved(ctx context.Context, files []ManifestFile) []ManifestFile {
	if len(Unresolved(files)) == 0 || n.Environment == nil {
		return files
	}
	containers, err := n.Runtime.Containers(ctx)
	if err != nil {
		return files
	}
	all := make([]ManifestFile, len(files))
	for i, m := range files {
		if all[i] = m; m.Manifest == nil {
			continue
		}
		for program, prefixes := range needs() {
			name, ok := m.Manifest.Runs(program)
			if !ok || len(m.Manifest.Unknown(name, prefixes...)) == 0 {
				continue
			}
			c := ContainerOf(containers, files, m, name)
			if c == nil {
				continue
			}
			if env, err := n.Environment(ctx, c.ID); err == nil {
				all[i].Manifest = m.Manifest.WithEnvironment(name, env)
			}
		}
	}
	return all
}

// ContainerOf is the newest container of a static pod, whose name is the manifest's followed by the
// node's (kubelet, pkg/kubelet/config/common.go), before all one that runs; nil if there is none.
func ContainerOf(containers []node.Container, files []ManifestFile, m ManifestFile, name string) *node.Container {
	var newest *node.Container
	pod := PodOf(files, m, name)
	for i, c := range containers {
		if !pod.Owns(c) {
			continue
		}
		if newest == nil || newest.State != "running" && (c.State == "running" || c.CreatedAt.After(newest.CreatedAt)) {
			newest = &containers[i]
		}
	}
	return newest
}

// PodOf is the pod of a manifest with some of its containers, told apart from the other pods of the
// node: the kubelet appends the node's name to a pod's, so that names of two may begin alike.
func PodOf(files []ManifestFile, m ManifestFile, containers ...string) op.Pod {
	pod := op.Pod{Namespace: m.Manifest.Namespace(), Name: m.Manifest.Name(), Containers: containers}
	for _, other := range files {
		if other.Manifest == nil || other.Manifest.Namespace() != pod.Namespace {
			continue
		}
		switch name := other.Manifest.Name(); {
		case strings.HasPrefix(name, pod.Name+"-"):
			pod.Except, pod.Node = append(pod.Except, name), m.node
		case strings.HasPrefix(pod.Name, name+"-"):
			pod.Short, pod.Node = append(pod.Short, name), m.node
		}
	}
	return pod
}

// Unresolved says what the manifests of etcd and of the API server leave open.
func Unresolved(files []ManifestFile) (said []string) {
	for _, m := range files {
		if m.Manifest == nil {
			continue
		}
		for _, program := range []string{"etcd", "kube-apiserver"} {
			name, ok := m.Manifest.Runs(program)
			if !ok {
				continue
			}
			if unknown := m.Manifest.Unknown(name, needs()[program]...); len(unknown) > 0 {
				said = append(said, fmt.Sprintf("%s takes %s from the pod's status or another object, and none of "+
					"its containers shows the value", m.Path, strings.Join(unknown, ", ")))
			}
		}
	}
	return said
}

// CheckResolved refuses a change while it is not known what manifests say, which need not be there
// yet.
func CheckResolved(files []ManifestFile) error {
	if said := Unresolved(files); len(said) > 0 {
		return engine.Refuse("write the value into the manifest; or let the kubelet start that container once: the "+
			"value is then known", "%s", strings.Join(said, "; "))
	}
	return nil
}
