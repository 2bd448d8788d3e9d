//go:build e2e

package threenodes

import (
	"os"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// A member is replaced by one run, between the two parts of kubeadm's join, as in the runbook
// replace-a-machine.md. A client writes all the time through the members that stay.

const (
	local         = "https://127.0.0.1:2379"
	kubeadmConfig = "/var/lib/kubeadm.yaml"
)

func TestALostMemberIsReplacedByAnotherMachine(t *testing.T) {
	k := take(t)
	first, lost := k.nodes[0], k.nodes[2]
	k.etcdServers(first, local, clientURL(lost))
	k.Must(k.rig.Remove(k.Patiently(), lost))
	two := k.only(k.rig.Nodes)
	machine := two.switchOn(lost)
	two.prepare(machine)
	w := two.watch()
	w.run(two.nodes[0], two.replacing(lost, machine)...)
	k = k.only(k.rig.Nodes)
	w.end(k.nodes)
	k.completes(machine)
	k.uses(first, "--etcd-servers="+local+","+clientURL(machine))
	k.one()
	k.peers(lost, machine)
	k.etcdServers(first, local)
}

// Only etcd's own directory is lost: of kubeadm's part, everything is there.
func TestALostMemberIsReplacedOnItsOwnNode(t *testing.T) {
	k := take(t)
	two, node, was := k.only(k.nodes[:2]), k.nodes[2], k.members()[0].Cluster
	// Without etcd it would keep the kubelet waiting, and that the new etcd.
	k.shell(node, `mv /etc/kubernetes/manifests/kube-apiserver.yaml /etc/kubernetes/manifests/etcd.yaml /var/lib/
		while pgrep -x kube-apiserver || pgrep -x etcd; do sleep 0.1; done >/dev/null
		rm -rf /var/lib/etcd`)
	w := two.watch()
	w.run(two.nodes[0], "replace", node.Name, "--with", node.Name, "--nodes", two.names())
	w.end(k.nodes)
	k.shell(node, "mv /var/lib/kube-apiserver.yaml /etc/kubernetes/manifests/")
	if is := k.one(); is != was {
		t.Errorf("the cluster was %x, and is %x", was, is)
	}
}

// The machine comes back under its name and its address, with nothing of what it had.
func TestMatrixALostMemberIsReplacedByItsOwnMachine(t *testing.T) {
	whole(t)
	k := take(t)
	two, node := k.only(k.nodes[:2]), k.nodes[2]
	for _, how := range []struct {
		name string
		gone func(*cluster)
	}{
		{"it is installed again", func(k *cluster) {
			k.Must(k.rig.Reinstall(k.Patiently(), node))
		}},
		{"kubeadm has reset it", func(k *cluster) {
			k.shell(node, `kubeadm reset --force --skip-phases=remove-etcd-member
				rm -rf /var/lib/etcd /var/lib/etcdpod`)
		}},
	} {
		t.Run(how.name, func(t *testing.T) {
			k, two := k.with(t), two.with(t)
			was := k.members()[0].Cluster
			how.gone(k)
			two.forgets(node)
			two.prepare(node)
			w := two.watch()
			w.run(two.nodes[0], two.replacing(node, node)...)
			w.end(k.nodes)
			k.completes(node)
			if is := k.one(); is != was {
				t.Errorf("the cluster was %x, and is %x", was, is)
			}
		})
	}
}

// The leader hands over to a new machine, and that one to the machine that was reset meanwhile.
func TestMatrixAMemberThatServesHandsOver(t *testing.T) {
	whole(t)
	k := take(t)
	old, was := k.nodes[2], k.members()[0].Cluster
	machine, err := k.rig.Add(k.Patiently(), "cp4")
	k.Must(err)
	k.handsOver(old, machine)
	k.handsOver(machine, old)
	k.Must(k.rig.Remove(k.Patiently(), machine))
	if is := k.one(); is != was {
		t.Errorf("the cluster was %x, and is %x", was, is)
	}
}

// handsOver puts a machine in the place of a member that leads, which kubeadm resets then.
func (k *cluster) handsOver(from, to *rig.Node) {
	k.Helper()
	staying := k.only(k.nodes[:2])
	with := k.only(append(slices.Clone(staying.nodes), from))
	after := k.only(append(slices.Clone(staying.nodes), to))
	with.prepare(to)
	with.want(0, with.nodes[0], "members", "move-leader", from.Name, "--yes")
	w := staying.watch()
	w.run(with.nodes[0], with.replacing(from, to)...)
	w.end(after.nodes)
	after.completes(to)
	k.shell(from, "kubeadm reset --force")
	after.forgets(from)
	after.one()
}

// Two of five are lost: one of the two leaves, the other is replaced, and a machine joins.
func TestMatrixTwoOfFiveAreReplaced(t *testing.T) {
	whole(t)
	k := take(t)
	first, was := k.nodes[0], k.members()[0].Cluster
	for _, name := range []string{"cp4", "cp5"} {
		machine, err := k.rig.Add(k.Patiently(), name)
		k.Must(err)
		k.Must(machine.Join(k.Patiently()))
	}
	five := k.only(k.rig.Nodes)
	five.one()
	again, lost := five.nodes[2], five.nodes[4]
	alive := k.only([]*rig.Node{five.nodes[0], five.nodes[1], five.nodes[3]})
	k.Must(again.KillEverything(k.Patiently()))
	k.Must(k.rig.Remove(k.Patiently(), lost))
	alive.forgets(again)
	k.Must(k.rig.Reinstall(k.Patiently(), again))
	alive.prepare(again)
	machine := alive.switchOn(lost)
	alive.prepare(machine)

	w := alive.watch()
	w.run(first, "remove", lost.Name, "--nodes", alive.names())
	w.run(first, alive.replacing(again, again)...)
	four := k.only(append(slices.Clone(alive.nodes), again))
	four.completes(again)
	four.one()
	w.run(machine, "join", "--config", kubeadmConfig)
	five = k.only(k.rig.Nodes)
	w.end(five.nodes)
	five.completes(machine)
	five.one()

	for n := len(five.nodes); n > len(k.nodes); n-- { // as three-to-five.md goes back
		all := k.only(k.rig.Nodes)
		gone := all.nodes[slices.IndexFunc(all.nodes, func(one *rig.Node) bool {
			return one.Name == map[int]string{5: "cp5", 4: "cp4"}[n]
		})]
		all.want(0, first, "remove", gone.Name, "--yes", "--nodes", all.names())
		k.shell(gone, "kubeadm reset --force")
		k.Must(k.rig.Remove(k.Patiently(), gone))
		all = k.only(k.rig.Nodes)
		all.forgets(gone)
		all.one()
	}
	if is := k.only(k.rig.Nodes).one(); is != was {
		t.Errorf("the cluster was %x, and is %x", was, is)
	}
}

// whole leaves a test to make e2e-matrix.
func whole(t *testing.T) {
	t.Helper()
	if os.Getenv("ETCDPOD_MATRIX") != "full" {
		t.Skip("make e2e-matrix runs it")
	}
}

// replacing is the command that puts a machine in the place of a member.
func (k *cluster) replacing(old, machine *rig.Node) []string {
	return []string{"replace", old.Name, "--with", machine.Name + "=" + machine.Address, "--nodes", k.names(),
		"--config", kubeadmConfig}
}

// kubeadm runs a command of kubeadm's on a node.
func (k *cluster) kubeadm(n *rig.Node, words ...string) {
	k.Helper()
	_, err := n.Exec(k.Patiently(), append([]string{"kubeadm"}, words...)...)
	k.Must(err)
}

// prepare does kubeadm's part before the member comes.
func (k *cluster) prepare(machine *rig.Node) {
	k.Helper()
	k.Must(os.WriteFile(machine.Path(kubeadmConfig), []byte(machine.JoinConfiguration()), 0o600))
	k.kubeadm(k.nodes[0], "init", "phase", "upload-certs", "--upload-certs", "--config", kubeadmConfig)
	k.kubeadm(machine, "join", "--config", kubeadmConfig, "--skip-phases",
		"preflight,check-etcd,etcd-join,kubelet-wait-bootstrap,control-plane-join,wait-control-plane")
}

// completes does kubeadm's part after that.
func (k *cluster) completes(machine *rig.Node) {
	k.Helper()
	k.kubeadm(machine, "join", "--config", kubeadmConfig, "--skip-phases",
		"preflight,control-plane-prepare,check-etcd,kubelet-start,etcd-join")
	k.Must(machine.AwaitReady(k.Patiently()))
}

// forgets is kubectl delete node.
func (k *cluster) forgets(gone *rig.Node) {
	k.Helper()
	client, err := k.nodes[0].Client()
	k.Must(err)
	k.Must(client.CoreV1().Nodes().Delete(k.Patiently(), gone.Name, metav1.DeleteOptions{}))
}

// one holds the nodes to being one cluster, without anybody else's member and any open run; all API
// servers are ready, and all nodes control planes. It returns the cluster's id.
func (k *cluster) one() (cluster uint64) {
	k.Helper()
	k.awaitReady()
	all := k.members()
	k.allClosed()
	client, err := k.nodes[0].Client()
	k.Must(err)
	for _, n := range k.nodes {
		node, err := client.CoreV1().Nodes().Get(k.Patiently(), n.Name, metav1.GetOptions{})
		k.Must(err)
		if _, is := node.Labels["node-role.kubernetes.io/control-plane"]; !is && n != k.nodes[0] {
			k.Errorf("%s is no control plane for kubeadm: %v", n.Name, node.Labels)
		}
		manifest := k.shell(n, "grep -e --initial-cluster= /etc/kubernetes/manifests/etcd.yaml || true")
		if !strings.Contains(manifest, n.Name+"=") {
			k.Errorf("the etcd of %s would start with %s", n.Name, manifest)
		}
	}
	return all[0].Cluster
}
