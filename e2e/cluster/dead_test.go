//go:build e2e

package cluster

import (
	"os"
	"strings"
	"testing"
)

func TestARestoreNeedsNothingThatRuns(t *testing.T) {
	k := take(t)
	s := k.scene()
	for _, c := range []struct{ name, script string }{
		{"etcd crashes on its damaged data, again and again", `systemctl stop kubelet; pkill -KILL -x etcd; while pgrep -x etcd; do sleep 0.1; done >/dev/null
			dd if=/dev/urandom of=/var/lib/etcd/member/snap/db bs=4096 count=4 conv=notrunc status=none; systemctl start kubelet`},
		{"etcd serves, and the API server is dead", `systemctl stop kubelet; pkill -KILL -x kube-apiserver; while ` +
			`pgrep -x kube-apiserver; do sleep 0.1; done >/dev/null`},
		{"the kubelet and all of the control plane are dead", `systemctl stop kubelet
			pkill -KILL -x 'etcd|kube-apiserver|kube-controller|kube-scheduler'; while pgrep -x etcd; do sleep 0.1; done >/dev/null`},
		{"the data directory is gone", `systemctl stop kubelet; pkill -KILL -x etcd; while pgrep -x etcd; do sleep ` +
			`0.1; done >/dev/null; rm -rf /var/lib/etcd`},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := k.with(t)
			manifests := k.manifests()
			k.moveOn()
			k.shell(c.script)
			k.want(0, "restore", "--yes", s.backup)
			k.be(s.then, "the world of the backup")
			k.sameManifests(manifests)
			k.oneEtcd()
		})
	}
}

func TestAnEtcdThatDoesNotBecomeHealthyIsTakenBackByItself(t *testing.T) {
	k := take(t)
	s := k.scene()

	t.Run("in time", func(t *testing.T) {
		k := k.with(t)
		manifests := k.manifests()
		now := k.moveOn()
		r := k.want(1, "restore", "--yes", "--wait-timeout", "50ms", s.backup)
		t.Log(r.stderr)
		k.awaitReady()
		k.be(now, "the world of before the restore")
		k.sameManifests(manifests)
		k.oneEtcd()
		k.ended("rolled back")
	})

	t.Run("at all, since its manifest is broken", func(t *testing.T) {
		k := k.with(t)
		now := k.moveOn()
		file := k.node.Path(manifestDir + "/etcd.yaml")
		good, err := os.ReadFile(file)
		k.Must(err)
		// Only etcd itself can tell that this is no retention: no number would be refused before.
		bad := strings.Replace(string(good), "--snapshot-count=10000", "--auto-compaction-retention=many", 1)
		if bad == string(good) {
			t.Fatal("the manifest has no --snapshot-count to break")
		}
		k.Must(k.node.StopKubelet(k.Ctx))
		k.Must(os.WriteFile(file, []byte(bad), 0o600))
		manifests := k.manifests()
		// Its containers served, and what was put back cannot: that is no clean return.
		r := k.want(6, "restore", "--yes", s.backup)
		t.Log(r.stderr)
		k.sameManifests(manifests)
		k.ended("rolled back")

		k.Must(k.node.StopKubelet(k.Ctx)) // it was left running, to show what is wrong
		k.Must(os.WriteFile(file, good, 0o600))
		k.Must(k.node.StartKubelet(k.Ctx))
		k.awaitReady()
		k.be(now, "the world of before the restore")
		k.oneEtcd()
	})
}
