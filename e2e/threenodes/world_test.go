//go:build e2e

package threenodes

import (
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// What the other tests of this package take for granted.

func TestThreeNodesAreOneCluster(t *testing.T) {
	k := take(t)
	s := k.scene()
	w := k.before(s)
	k.be(wholeOld, w)

	t.Run("a world that is not there is found missing", func(t *testing.T) {
		k := k.with(t)
		other := w
		other.old = world{"no": "such"}
		if is, err := k.state(other); err == nil {
			t.Errorf("the cluster passes for the %s one of other objects", is)
		}
		other = w
		other.cluster++ // as if it were restored since
		if is, err := k.state(other); err == nil {
			t.Errorf("the cluster passes for the %s one of another id", is)
		}
		other.new, other.since = w.old, time.Now() // the right objects, and processes of before
		if is, err := k.state(other); err == nil || !strings.Contains(err.Error(), "runs since") {
			t.Errorf("the cluster passes for the %s one with processes of the old one: %v", is, err)
		}
	})
}

func TestRootReachesEveryNodeFromEveryNode(t *testing.T) {
	k := take(t)
	for _, from := range k.nodes {
		for _, to := range k.nodes {
			got := k.shell(from, "ssh "+to.Name+` 'hostname; command -v systemctl; systemctl is-active kubelet; ls /proc/1/root/var/lib/kubeadm.yaml
				readlink /proc/self/ns/mnt /proc/self/ns/net /proc/self/ns/pid; etcdpod version' </dev/null`)
			want := to.Name + "\n" + k.shell(to, `command -v systemctl; echo active; echo /proc/1/root/var/lib/kubeadm.yaml
				readlink /proc/self/ns/mnt /proc/self/ns/net /proc/self/ns/pid; etcdpod version`)
			if got != want {
				t.Errorf("from %s, ssh %s says\n%s\nand the node itself\n%s", from.Name, to.Name, got, want)
			}
		}
	}
	for _, n := range k.nodes {
		if out, err := n.Exec(k.Patiently(), "ssh", "-o", "HostKeyAlias=stranger", n.Name, "true"); err == nil {
			t.Errorf("%s enters a host whose key it does not know: %s", n.Name, out)
		}
	}
}

func TestANodeComesBackFromAReboot(t *testing.T) {
	k := take(t)
	w := k.before(k.scene())
	node := k.nodes[1]
	k.Must(node.Reboot(k.Patiently()))
	if got := k.shell(k.nodes[0], "ssh "+node.Name+" hostname"); got != node.Name {
		t.Errorf("ssh enters %s, not %s", got, node.Name)
	}
	k.be(wholeOld, w)
}

func TestFaultsStrikeWhatTheyAreMeantFor(t *testing.T) {
	k := take(t)
	a, b, c := k.nodes[0], k.nodes[1], k.nodes[2]
	reaches := func(from, to *rig.Node) bool {
		_, err := from.Exec(k.Patiently(), "ssh", to.Name, "true")
		return err == nil
	}

	t.Run("two nodes that are separated reach the third", func(t *testing.T) {
		k := k.with(t)
		k.Must(a.Separate(k.Patiently(), b))
		if reaches(a, b) || reaches(b, a) || !reaches(a, c) || !reaches(c, b) {
			t.Error("the wrong nodes are separated")
		}
		k.Must(a.Unite(k.Patiently(), b))
		if !reaches(a, b) || !reaches(b, a) {
			t.Error("the nodes are still separated")
		}
	})

	t.Run("a node that is cut off reaches nobody", func(t *testing.T) {
		k := k.with(t)
		k.Must(c.CutOff(k.Patiently()))
		if reaches(c, a) || reaches(b, c) || !reaches(a, b) {
			t.Error("the wrong node is cut off")
		}
		k.Must(c.Connect(k.Patiently()))
		if !reaches(b, c) {
			t.Error("the node is still cut off")
		}
	})

	t.Run("what is killed is on that node alone", func(t *testing.T) {
		k := k.with(t)
		for _, n := range k.nodes {
			k.Must(n.Command(k.Ctx, "sleep", "4321").Start())
		}
		for _, n := range k.nodes {
			k.shell(n, "until pgrep -fx 'sleep 4321'; do sleep 0.05; done")
		}
		killed, err := b.Kill(k.Patiently(), "^sleep 4321$")
		k.Must(err)
		// It takes a moment to be gone.
		k.shell(b, "while pgrep -fx 'sleep 4321'; do sleep 0.05; done")
		if killed != 1 || k.shell(a, "pgrep -fx 'sleep 4321' | wc -l") != "1" {
			t.Errorf("%d processes were killed", killed)
		}
		for _, n := range []*rig.Node{a, c} {
			_, err := n.Kill(k.Patiently(), "^sleep 4321$")
			k.Must(err)
		}
	})

	t.Run("a small disk is full soon, and gone without a trace", func(t *testing.T) {
		k := k.with(t)
		k.Must(b.SmallDisk(k.Patiently(), "/var/lib/etcdpod", 1<<20))
		if _, err := b.Exec(k.Patiently(), "dd", "if=/dev/zero", "of=/var/lib/etcdpod/fill",
			"bs=64K", "count=17"); err == nil || !strings.Contains(err.Error(), "No space left") {
			t.Errorf("17 blocks of 64 KiB are on a disk of 1 MiB: %v", err)
		}
		k.Must(b.Unmount(k.Patiently(), "/var/lib/etcdpod"))
		k.shell(b, "test ! -e /var/lib/etcdpod/fill")
	})
}
