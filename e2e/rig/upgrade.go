package rig

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// Upgrade runs kubeadm upgrade apply on the first node, to the Kubernetes version that it already
// has, with etcd at the image tag etcdTag: [UpgradedEtcd], say, or empty for kubeadm's own.
// kubeadm renders every manifest again and replaces those that differ. A tag other than the
// running etcd's makes it back up etcd's data directory and replace etcd's manifest, even if
// nothing else changed. kubeadm's preflight is skipped: without a pod network its trial job never
// ends. More kubeadm flags may follow: with --certificate-renewal=false, unchanged pods are not
// restarted. It returns kubeadm's output.
func (c *Cluster) Upgrade(ctx context.Context, etcdTag string, flags ...string) (string, error) {
	if err := c.SetEtcdTag(ctx, etcdTag); err != nil {
		return "", fmt.Errorf("cannot upgrade %s: %w", c.Nodes[0].Name, err)
	}
	args := []string{"kubeadm", "upgrade", "apply", "v" + binaries.KubernetesVersion, "--yes", "--force",
		"--ignore-preflight-errors=all", "--skip-phases=preflight,addon"}
	out, err := c.Nodes[0].Exec(ctx, append(args, flags...)...)
	if err != nil {
		return string(out), fmt.Errorf("cannot upgrade %s: %w", c.Nodes[0].Name, err)
	}
	return string(out), nil
}

// SetEtcdTag changes etcd's image tag in the configuration that kubeadm keeps in the cluster, as an
// administrator does before an upgrade. Empty means kubeadm's own.
func (c *Cluster) SetEtcdTag(ctx context.Context, tag string) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	maps := client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	kept, err := maps.Get(ctx, "kubeadm-config", metav1.GetOptions{})
	if err != nil {
		return err
	}
	var config map[string]any
	if err := yaml.Unmarshal([]byte(kept.Data["ClusterConfiguration"]), &config); err != nil {
		return err
	}
	etcd, _ := config["etcd"].(map[string]any)
	local, ok := etcd["local"].(map[string]any)
	if !ok {
		return fmt.Errorf("kubeadm-config has no local etcd: %s", kept.Data["ClusterConfiguration"])
	}
	delete(local, "imageTag")
	if tag != "" {
		local["imageTag"] = tag
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	kept.Data["ClusterConfiguration"] = string(text)
	_, err = maps.Update(ctx, kept, metav1.UpdateOptions{})
	return err
}
