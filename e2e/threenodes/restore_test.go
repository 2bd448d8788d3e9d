//go:build e2e

package threenodes

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// names are the nodes, as --nodes has them.
func (k *cluster) names() string {
	var all []string
	for _, n := range k.nodes {
		all = append(all, n.Name)
	}
	return strings.Join(all, ",")
}

// restore is the command that restores a scene on all nodes.
func (k *cluster) restore(s scene, more ...string) []string {
	return append([]string{"restore", "--yes", "--nodes", k.names(), s.backup}, more...)
}

// stopAll ends what the kubelet runs on a node, and the kubelet first, so that it stays ended.
const stopAll = `systemctl stop kubelet
	for name in kube-apiserver etcd kube-controller kube-scheduler; do # as the kernel cuts them off, at 15 letters
		pkill -KILL -x $name || true
		while pgrep -x $name >/dev/null; do sleep 0.1; done
	done
	`

func TestARestoreBringsTheBackupBackOnAllThreeNodes(t *testing.T) {
	k := take(t)
	s := k.scene()
	manifests := k.manifests()
	w := k.before(s)
	meters := k.meters()
	r := k.want(0, k.nodes[0], k.restore(s, "--output", "json")...)
	k.tellOutage(meters)
	k.Logf("phases: %s", phaseTimes(r.stdout))
	k.be(wholeNew, w)
	k.sameManifests(manifests)
	k.allClosed()
}

func TestARestoreNeedsNoQuorumAndNoAPIServer(t *testing.T) {
	k := take(t)
	s := k.scene()
	manifests := k.manifests()
	w := k.before(s)
	k.shell(k.nodes[0], `systemctl stop kubelet; pkill -KILL -x kube-apiserver`)
	for _, n := range k.nodes[1:] {
		k.shell(n, stopAll+"rm -rf /var/lib/etcd/member")
	}
	k.want(0, k.nodes[0], k.restore(s)...)
	k.be(wholeNew, w)
	k.sameManifests(manifests)
}

// A disk without inodes has room as statfs(2) tells it, and takes no file: it is found full
// only by what is written. One more each time, until the run's journal finds its place, and
// the snapshot does not.
func TestAFullDiskOnOneNodeTakesAllBack(t *testing.T) {
	k := take(t)
	s := k.scene()
	w := k.before(s)
	full := k.nodes[1]
	for inodes := 5; ; inodes++ {
		k.Must(full.SmallDisk(k.Patiently(), "/var/lib/etcdpod", 256<<20))
		k.shell(full, fmt.Sprintf("mount -o remount,nr_inodes=%d /var/lib/etcdpod", inodes))
		r := k.etcdpod(k.nodes[0], k.restore(s)...)
		k.allClosed()
		k.Must(full.Unmount(k.Patiently(), "/var/lib/etcdpod"))
		if r.code != 1 || !strings.Contains(r.stderr, full.Name) || !strings.Contains(r.stderr, "no space left") {
			t.Fatalf("with %d inodes it ends with %d, and should with 1 and say where the disk is full:\n%s",
				inodes, r.code, r.stderr)
		}
		k.be(wholeOld, w)
		if strings.Contains(r.stderr, "receive the snapshot") {
			return
		}
	}
}

func TestWhatCannotEndWellIsRefusedOnAllNodes(t *testing.T) {
	k := take(t)
	s := k.scene()
	w := k.before(s)
	k.Must(k.rig.InstallEtcdpod(k.Patiently(), "etcdpod-other", "0.0.0-other"))
	for _, c := range []struct {
		name  string
		args  []string
		words []string
	}{
		{"a node that is called lost, and is not",
			[]string{"--nodes", "cp1,cp2", "--lost", "cp3"}, []string{k.nodes[2].Address, "still answers"}},
		{"an old member that answers, while the others are to join one",
			[]string{"--rejoin", "--nodes", "cp1,cp2", "--lost", "cp3"}, []string{k.nodes[2].Address, "still answers"}},
		{"a member that is not listed",
			[]string{"--nodes", "cp1,cp2"}, []string{"cp3", "--lost"}},
		{"another etcdpod on the other nodes",
			[]string{"--nodes", "cp1,cp2,cp3", "--remote-command", "etcdpod-other"},
			[]string{"0.0.0-other", "install the same etcdpod"}},
		{"a name that is another node's",
			[]string{"--nodes", "cp1,cp2=cp3,cp3=cp2"}, []string{"cp2", "cp3", "NAME=HOST"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := k.with(t)
			r := k.want(5, k.nodes[0], append(append([]string{"restore", "--yes"}, c.args...), s.backup)...)
			for _, word := range c.words {
				if !strings.Contains(r.stderr, word) {
					t.Errorf("it does not say %q:\n%s", word, r.stderr)
				}
			}
			k.be(wholeOld, w)
			k.allClosed()
		})
	}
}

// The machine that was lost is back at the end: a restore on all three nodes takes it in again,
// whatever its etcd has.
func TestAClusterIsRestoredWithoutANodeThatIsLost(t *testing.T) {
	k := take(t)
	s := k.scene()
	w := k.before(s)
	lost := k.nodes[2]
	k.Must(lost.KillEverything(k.Patiently()))
	two := k.only(k.nodes[:2])
	two.want(0, k.nodes[0], two.restore(s, "--lost", lost.Name)...)
	two.be(wholeNew, w)
	two.allClosed()

	after := two.before(s)
	k.Must(lost.Boot(k.Patiently()))
	k.want(0, k.nodes[0], k.restore(s)...)
	k.be(wholeNew, after)
}

// manifests returns what the kubelet of each node is given, in all.
func (k *cluster) manifests() map[string]string {
	k.Helper()
	all := map[string]string{}
	for _, n := range k.nodes {
		all[n.Name] = k.shell(n, "cd /etc/kubernetes/manifests && sha256sum $(ls -A)")
	}
	return all
}

func (k *cluster) sameManifests(before map[string]string) {
	k.Helper()
	for name, now := range k.manifests() {
		if now != before[name] {
			k.Errorf("the manifests of %s were\n%s\nand are\n%s", name, before[name], now)
		}
	}
}

// meters watch all API servers.
func (k *cluster) meters() []*rig.Meter {
	k.Helper()
	var all []*rig.Meter
	for _, n := range k.nodes {
		m, err := n.Meter(k.Ctx)
		k.Must(err)
		all = append(all, m)
	}
	return all
}

// tellOutage logs how long a cluster was not wholly there.
func (k *cluster) tellOutage(meters []*rig.Meter) {
	k.Helper()
	var first, ready, working time.Time
	for _, m := range meters {
		o, err := m.End(k.Patiently())
		k.Must(err)
		if first.IsZero() || o.Down.Before(first) {
			first = o.Down
		}
		ready = later(ready, o.Down.Add(o.Ready))
		working = later(working, o.Down.Add(o.Working))
	}
	k.Logf("from the first API server's end to the last one's readiness: %.1f s; until "+
		"controllers work, seen through each: %.1f s",
		ready.Sub(first).Seconds(), working.Sub(first).Seconds())
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
