package observe

import (
	"context"
	"fmt"
	"slices"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// Elsewhere says that nothing of a control plane is on this machine, nor was: all that is missing
// is missing because this is another kind of machine. It is empty where there is a trace of one.
func (n *Node) Elsewhere(files []ManifestFile) string {
	traces := []string{KubeadmCertificatesDir + "/etcd", KubeadmCertificatesDir + "/sa.key",
		"/etc/kubernetes/admin.conf", "/var/lib/etcd"}
	if len(files) > 0 || engine.Worked(n.FS) || slices.ContainsFunc(traces, n.Exists) {
		return ""
	}
	return fmt.Sprintf("this is not a control-plane node: %s has no static pods, and there are no kubeadm "+
		"control-plane files and no etcd data", n.Config.StaticPodPath)
}

// CheckControlPlane is [Facts.CheckControlPlane] before any facts are there.
func (n *Node) CheckControlPlane(ctx context.Context) error {
	files, err := n.Manifests(ctx, n.Config.StaticPodPath)
	if err != nil {
		return nil // then it is not known, and whatever needs them says so
	}
	return (&Facts{Elsewhere: n.Elsewhere(files)}).CheckControlPlane()
}

// CheckControlPlane refuses what works on a control plane alone, and proposes nothing.
func (f *Facts) CheckControlPlane() error {
	if f.Elsewhere == "" {
		return nil
	}
	return engine.Refuse("", "%s", f.Elsewhere)
}
