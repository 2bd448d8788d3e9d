//go:build e2e

package cluster

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

func TestKubeadmUpgradeWorksAfterARestore(t *testing.T) {
	k := take(t)
	s := k.scene()
	k.moveOn()
	k.want(0, "restore", "--yes", s.backup)
	k.upgrade()
	k.be(s.then, "the world of the backup")

	t.Run("and after one into a new data directory", func(t *testing.T) {
		const dir = "/var/lib/etcd-new"
		k := k.with(t)
		k.moveOn()
		k.want(0, "restore", "--yes", "--data-dir", dir, s.backup)
		k.be(s.then, "the world of the backup")
		config, err := k.client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(k.Ctx,
			"kubeadm-config", metav1.GetOptions{})
		k.Must(err)
		if text := config.Data["ClusterConfiguration"]; !strings.Contains(text, "dataDir: "+dir+"\n") {
			t.Errorf("kubeadm still has the old data directory:\n%s", text)
		}
		// kubeadm writes the new directory into --data-dir, too: a changed manifest again.
		k.upgrade()
		k.be(s.then, "the world of the backup")
		manifest, err := k.node.ReadFile(manifestDir + "/etcd.yaml")
		k.Must(err)
		if !strings.Contains(string(manifest), "path: "+dir+"\n") {
			t.Errorf("kubeadm's manifest does not mount %s:\n%s", dir, manifest)
		}
		k.oneEtcd()
	})
}

// skipPreflight saves the minute that kubeadm waits for a Job: without CNI no node here runs one.
const skipPreflight = "--skip-phases=preflight"

// upgrade lets kubeadm upgrade the control plane, and etcd to another image tag.
func (k *control) upgrade() {
	k.Helper()
	before := k.manifests()["etcd.yaml"]
	start := time.Now()
	out, err := k.cluster.Upgrade(k.Patiently(), rig.UpgradedEtcd,
		"--certificate-renewal=false", skipPreflight)
	if err != nil {
		k.Fatalf("%v\n%s", err, out)
	}
	k.awaitWorking()
	k.Logf("the upgrade took %.0f s", time.Since(start).Seconds())
	if k.manifests()["etcd.yaml"] == before {
		k.Error("kubeadm has not changed etcd's manifest: this proves nothing")
	}
}
