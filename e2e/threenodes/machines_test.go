//go:build e2e

package threenodes

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// One machine is destroyed: the others are restored without it. Another machine takes its
// name, with an address of its own, and joins by kubeadm: all three are restored from the
// backup that knows the old one.
func TestAClusterIsRestoredOntoAMachineWithAnotherAddress(t *testing.T) {
	k := take(t)
	s := k.scene()
	w := k.before(s)
	first, lost := k.nodes[0], k.nodes[2]
	const local = "https://127.0.0.1:2379"
	// As where one API server is to outlive its own etcd.
	k.etcdServers(first, local, clientURL(lost))
	k.Must(k.rig.Remove(k.Patiently(), lost))
	two := k.only(k.rig.Nodes)
	two.want(0, first, two.restore(s, "--lost", lost.Name)...)
	two.be(wholeNew, w)
	two.allClosed()
	// No entry of the lost one.
	two.uses(first,
		"--etcd-servers="+strings.Join([]string{local, clientURL(two.nodes[0]), clientURL(two.nodes[1])}, ","))

	machine := two.replace(lost)
	k = k.only(k.rig.Nodes)
	k.members() // with the new one
	w = k.before(s)
	k.want(0, first, k.restore(s)...)
	k.be(wholeNew, w)
	k.allClosed()
	k.peers(lost, machine)
	k.etcdServers(first, local)
}

// A machine is lost; its member is removed, and another machine takes its name, as in the runbook
// for one lost node.
func TestALostMemberIsRemovedAndAnotherMachineJoins(t *testing.T) {
	k := take(t)
	first, lost := k.nodes[0], k.nodes[2]
	const local = "https://127.0.0.1:2379"
	// As where one API server is to outlive its own etcd.
	k.etcdServers(first, local, clientURL(lost))
	k.Must(k.rig.Remove(k.Patiently(), lost))
	two := k.only(k.rig.Nodes)
	r := two.want(5, first, "remove", two.nodes[1].Name, "--yes", "--nodes", two.names())
	if !strings.Contains(r.stderr, "would lose its quorum at once") {
		t.Errorf("it says %s", r.stderr)
	}
	two.want(0, first, "remove", lost.Name, "--yes", "--nodes", two.names())
	two.uses(first, "--etcd-servers="+local)
	two.members()
	machine := two.replace(lost)
	k = k.only(k.rig.Nodes)
	k.members() // with the new one
	k.peers(lost, machine)
}

// replace gives the name of a machine that is gone to a new one, which joins the cluster.
func (k *cluster) replace(gone *rig.Node) *rig.Node {
	k.Helper()
	machine := k.switchOn(gone)
	k.Must(machine.Join(k.Patiently()))
	return machine
}

// switchOn gives the name of a machine that is gone to a new one.
func (k *cluster) switchOn(gone *rig.Node) *rig.Node {
	k.Helper()
	client, err := k.nodes[0].Client()
	k.Must(err)
	k.Must(client.CoreV1().Nodes().Delete(k.Patiently(), gone.Name, metav1.DeleteOptions{}))
	k.forgotten(gone)
	machine, err := k.rig.Add(k.Patiently(), gone.Name)
	k.Must(err)
	if machine.Address == gone.Address {
		k.Fatalf("the new %s has the address of the old one, %s", machine.Name, machine.Address)
	}
	return machine
}

// forgotten returns when nothing in etcd says any more that the API server of a node is there: a
// lease that the backup brought back must end first.
func (k *cluster) forgotten(gone *rig.Node) {
	k.Helper()
	clients, err := dialEtcds(k.nodes[:1])
	k.Must(err)
	defer clients.close()
	for ctx := k.Patiently(); ; {
		lease, err := clients.clients[0].Get(ctx, "/registry/masterleases/"+gone.Address)
		k.Must(err)
		if len(lease.Kvs) == 0 {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// peers insists that the members are reached where the machines are, and nowhere else.
func (k *cluster) peers(gone, machine *rig.Node) {
	k.Helper()
	clients, err := dialEtcds(k.nodes[:1])
	k.Must(err)
	defer clients.close()
	list, err := clients.clients[0].MemberList(k.Patiently())
	k.Must(err)
	var urls []string
	for _, m := range list.Members {
		urls = append(urls, m.PeerURLs...)
	}
	peer := func(n *rig.Node) string { return fmt.Sprintf("https://%s:2380", n.Address) }
	if len(urls) != len(k.nodes) || !slices.Contains(urls, peer(machine)) || slices.Contains(urls, peer(gone)) {
		k.Errorf("the members are reached at %v; the new machine is %s, and the old one was %s",
			urls, machine.Address, gone.Address)
	}
}
