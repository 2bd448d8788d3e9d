//go:build e2e

package cluster

import (
	"regexp"
	"strings"
	"testing"
)

func TestBehindTheCommitPointTheDataThatWasReplacedIsAnotherRestoreAway(t *testing.T) {
	k := take(t)
	s := k.scene()
	manifests := k.manifests()
	now := k.moveOn()
	k.cutOff(s.backup, point{phase: "await-apiserver"}, func(kill func()) { kill() })
	refused := k.want(5, "rollback").stderr
	k.want(0, "resume")
	k.be(s.then, "the world of the backup")

	hint := regexp.MustCompile("`etcdpod (restore --from-data-dir [^`]+)`").FindStringSubmatch(refused)
	if hint == nil {
		t.Fatalf("the refusal names no way back:\n%s", refused)
	}
	k.want(0, append(strings.Fields(hint[1]), "--yes")...)
	k.be(now, "the world that the restore replaced")
	k.sameManifests(manifests)
	k.oneEtcd()
}

func TestADataDirectoryThatIsAMountPointIsRestoredInto(t *testing.T) {
	k := take(t)
	const stop = `systemctl stop kubelet
		pkill -KILL -x 'etcd|kube-apiserver|kube-controller|kube-scheduler'; while pgrep -x etcd; do sleep 0.1; done >/dev/null
		`
	k.shell(stop + "mv /var/lib/etcd /var/lib/etcd-before")
	if err := k.node.OwnDisk(k.Patiently(), "xfs", "/var/lib/etcd"); err != nil {
		t.Logf("the mount point is on this host's own file system instead: %v", err)
		k.shell("mkdir -p -m 0700 /var/lib/etcd /var/lib/etcd-disk; mount --bind /var/lib/etcd-disk /var/lib/etcd")
	}
	k.shell("cp -a /var/lib/etcd-before/. /var/lib/etcd; rm -r /var/lib/etcd-before; systemctl start kubelet")
	t.Cleanup(func() {
		k := k.with(t)
		k.shell(stop + `mkdir -m 0700 /var/lib/etcd-after; cp -a /var/lib/etcd/. /var/lib/etcd-after
			umount /var/lib/etcd; rmdir /var/lib/etcd; rm -rf /var/lib/etcd-disk
			mv /var/lib/etcd-after /var/lib/etcd; systemctl start kubelet`)
		k.awaitReady()
	})
	k.awaitReady()
	s := k.scene()
	manifests := k.manifests()

	k.moveOn()
	k.want(0, "restore", "--yes", s.backup)
	k.be(s.then, "the world of the backup")
	if kept := k.shell("ls -d /var/lib/etcd/.etcdpod-*/data/member/snap/db"); len(strings.Fields(kept)) != 1 {
		t.Errorf("the old data is not kept on its own disk: %s", kept)
	}

	now := k.moveOn()
	r := k.cutOff(s.backup, point{phase: "exchange-data"}, func(kill func()) { kill() })
	rollback(k, r, s.then, now)
	k.sameManifests(manifests)
	k.oneEtcd()
}
