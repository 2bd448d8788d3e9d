//go:build e2e

package machines

import (
	"crypto/tls"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/rig"
	"github.com/etcdpod/etcdpod/e2e/rig/hand"
)

func TestMatrixOnContainerd2(t *testing.T) {
	k := on(t, "containerd2", rig.Machine{Containerd: binaries.Containerd2})
	k.part("it is that containerd", func(k *control) {
		says := k.shell(k.node, "/proc/$(pgrep -x containerd)/exe --version; containerd-shim-runc-v2 -v")
		if strings.Count(says, "v"+binaries.Containerd2) != 2 {
			k.Errorf("the node runs\n%s", says)
		}
	})
	k.part("the sandboxes' image is missed where it is not", func(k *control) {
		file, _ := k.backup()
		// containerd notices a moment after ctr has changed something.
		awaitSaid := func(said bool) {
			k.Helper()
			const untold = "does not tell which image pods' sandboxes are made from"
			for begun := time.Now(); ; time.Sleep(200 * time.Millisecond) {
				plan := k.etcdpod(k.node, 0, "restore", "--dry-run", file)
				if strings.Contains(plan, untold) == said {
					return
				}
				if time.Since(begun) > hand.Patience {
					k.Fatalf("that it is not known is to be said: %v; and the plan is\n%s", said, plan)
				}
			}
		}
		awaitSaid(false)
		const ctr = "ctr --namespace k8s.io images "
		pause := k.shell(k.node, ctr+"list --quiet | grep /pause:")
		k.shell(k.node, ctr+"export /var/lib/pause.tar "+pause+"; "+ctr+"remove --sync "+pause)
		awaitSaid(true)
		k.shell(k.node, ctr+"import /var/lib/pause.tar")
		awaitSaid(false)
	})
	k.alone()
	k.together()
}

func TestMatrixOnSystemd(t *testing.T) {
	k := on(t, "systemd", rig.Machine{Systemd: true})
	isSystemd := func(k *control) {
		k.Helper()
		k.shell(k.node, `test "$(cat /proc/1/comm)" = systemd
			test "$(systemctl show --property=MainPID --value kubelet)" = "$(pgrep -x kubelet)"`)
	}
	k.part("it is systemd, and the kubelet is its unit", isSystemd)
	k.units()
	k.alone()
	k.together()
	k.part("the kubelet is still its unit", isSystemd)
}

func TestMatrixOnXFS(t *testing.T) { onFileSystem(t, "xfs") }

func TestMatrixOnBtrfs(t *testing.T) { onFileSystem(t, "btrfs") }

func onFileSystem(t *testing.T, kind string) {
	k := on(t, kind, rig.Machine{FileSystem: kind})
	isOn := func(k *control) {
		k.Helper()
		if got := k.shell(k.node, "stat --file-system --format %T /var/lib/etcd/member"); got != kind {
			k.Fatalf("etcd's data is on %s", got)
		}
	}
	k.part("etcd's data is there", isOn)
	k.alone()
	if kind == "btrfs" {
		k.part("where /var/lib/etcd is a subvolume", func(k *control) {
			k.moving(func() { k.shell(k.node, "btrfs subvolume create /var/lib/etcd; chmod 0700 /var/lib/etcd") })
			k.restores(k.node)
			k.undoes()
			isOn(k)
		})
	}
	k.part("where /var/lib/etcd is a disk of its own", func(k *control) {
		k.moving(func() { k.Must(k.node.OwnDisk(k.Patiently(), kind, "/var/lib/etcd")) })
		k.restores(k.node)
		k.undoes()
		isOn(k)
		// What was replaced is kept on the disk of what replaced it.
		k.shell(k.node, "ls /var/lib/etcd/.etcdpod-*/data/member/snap/db")
	})
	k.together()
}

// alone is what every machine must let etcdpod do with a cluster of one.
func (k *control) alone() {
	k.Helper()
	k.part("a backup comes back", func(k *control) { k.restores(k.node) })
	k.part("a restore that fails is undone", func(k *control) { k.undoes() })
	k.part("after a power failure what was restored is there", func(k *control) {
		_, then := k.backup()
		k.Must(k.node.Reboot(k.Patiently()))
		k.Must(k.node.AwaitReady(k.Patiently()))
		k.says(k.node, then)
	})
	k.part("certificates are renewed", func(k *control) {
		before := k.served()
		k.etcdpod(k.node, 0, "certs", "renew", "--yes")
		if k.served() == before {
			k.Errorf("etcd still serves the certificate %s", before)
		}
		k.etcdpod(k.node, 0, "certs", "check")
		k.Must(k.node.AwaitReady(k.Patiently()))
		k.backup()
	})
}

// together makes the cluster one of two members.
func (k *control) together() {
	k.Helper()
	k.part("a member joins", func(k *control) { k.joins() })
	k.part("a backup comes back on both", func(k *control) { k.restores(k.cluster.Nodes...) })
}

// restores takes a backup, lets the world go on, and restores on these nodes.
func (k *control) restores(nodes ...*rig.Node) {
	k.Helper()
	file, then := k.backup()
	k.put("later")
	args := []string{"restore", "--yes", file}
	if len(nodes) > 1 {
		var names []string
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		args = append(args, "--nodes", strings.Join(names, ","))
	}
	start := time.Now()
	k.etcdpod(k.node, 0, args...)
	k.Logf("restore: %.1f s", time.Since(start).Seconds())
	for _, n := range nodes {
		k.Must(n.AwaitReady(k.Patiently()))
		k.says(n, then)
	}
	k.Must(k.cluster.AwaitWorking(k.Patiently()))
}

// undoes has a restore fail after the data was exchanged: etcd would have to serve at once.
func (k *control) undoes() {
	k.Helper()
	file, _ := k.backup()
	k.put("later")
	k.etcdpod(k.node, 1, "restore", "--yes", "--wait-timeout", "50ms", file)
	k.Must(k.node.AwaitReady(k.Patiently()))
	k.says(k.node, "later")
}

// served is the number of the certificate that etcd shows.
func (k *control) served() string {
	k.Helper()
	conn, err := tls.Dial("tcp", k.node.Address+":2379", &tls.Config{InsecureSkipVerify: true})
	k.Must(err)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// moving moves etcd's data to another /var/lib/etcd, which is made meanwhile.
func (k *control) moving(to func()) {
	k.Helper()
	k.shell(k.node, `systemctl stop kubelet
		pkill -KILL -x 'etcd|kube-apiserver|kube-controller|kube-scheduler'
		while pgrep -x etcd >/dev/null; do sleep 0.1; done
		mv /var/lib/etcd /var/lib/etcd-before`)
	to()
	k.shell(k.node, `cp -a /var/lib/etcd-before/member /var/lib/etcd
		rm -r /var/lib/etcd-before
		systemctl start kubelet`)
	k.Must(k.node.AwaitReady(k.Patiently()))
}

// joins makes a second machine a control plane, as docs/kubeadm.md says.
func (k *control) joins() {
	k.Helper()
	machine, err := k.cluster.Add(k.Patiently(), "cp2")
	k.Must(err)
	const config = "/var/lib/kubeadm.yaml"
	k.Must(os.WriteFile(machine.Path(config), []byte(machine.JoinConfiguration()), 0o600))
	join := "kubeadm join --config " + config + " --skip-phases=preflight,"
	k.shell(machine, join+"etcd-join,kubelet-wait-bootstrap,control-plane-join,wait-control-plane")
	k.etcdpod(machine, 0, "join", "--config", config, "--yes")
	k.shell(machine, join+"control-plane-prepare,check-etcd,kubelet-start,etcd-join")
	k.Must(k.cluster.AwaitWorking(k.Patiently()))
	_, then := k.backup()
	k.says(machine, then)
	var status struct{ Members []struct{ Name string } }
	out := k.etcdpod(machine, 6, "status", "--output", "json") // it has no backup
	k.Must(json.Unmarshal([]byte(out), &status))
	if len(status.Members) != 2 {
		k.Errorf("the members are %v", status.Members)
	}
}
