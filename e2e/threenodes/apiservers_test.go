//go:build e2e

package threenodes

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

const apiServerManifest = "/etc/kubernetes/manifests/kube-apiserver.yaml"

// etcdServers lets the API server of a node use these etcds, and returns when
// one that does is ready.
func (k *cluster) etcdServers(n *rig.Node, urls ...string) {
	k.Helper()
	flag := "--etcd-servers=" + strings.Join(urls, ",")
	// By way of a file elsewhere: the kubelet runs whatever it finds in its directory.
	k.shell(n, fmt.Sprintf(`sed 's#--etcd-servers=.*#%s#' %s >/var/lib/kube-apiserver.yaml && cp `+
		`/var/lib/kube-apiserver.yaml %[2]s`, flag, apiServerManifest))
	k.uses(n, flag)
	k.Must(n.AwaitReady(k.Patiently()))
}

// uses returns when the one API server of a node has that flag.
func (k *cluster) uses(n *rig.Node, flag string) {
	k.Helper()
	for ctx := k.Patiently(); ; {
		all, err := n.Processes(ctx, "kube-apiserver")
		k.Must(err)
		if len(all) == 1 && slices.Contains(all[0].Args, flag) {
			return
		}
		select {
		case <-ctx.Done():
			k.Fatalf("%s runs no API server with %s: %v", n.Name, flag, all)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func clientURL(n *rig.Node) string { return "https://" + n.Address + ":2379" }

// leave removes a node's etcd from the cluster: it is stopped, and its API server uses the etcds of
// the others. Then its data is gone, too, and its manifest is kept elsewhere.
func (k *cluster) leave(n *rig.Node) *cluster {
	k.Helper()
	others := slices.DeleteFunc(slices.Clone(k.nodes), func(other *rig.Node) bool { return other == n })
	remove := []string{"remove", n.Name, "--yes", "--nodes", k.names()}
	if r := k.want(5, k.nodes[0], remove...); !strings.Contains(r.stderr, "the next loss costs the quorum") {
		k.Errorf("it says %s", r.stderr)
	}
	k.want(0, k.nodes[0], append(remove, "--no-spare")...)
	k.shell(n, `test ! -e /etc/kubernetes/manifests/etcd.yaml
		if pgrep -x etcd; then exit 1; fi
		test -e /var/lib/etcd/member/snap/db
		grep -e "--etcd-servers=https://.*,https://" `+apiServerManifest+`
		cp /var/lib/etcdpod/runs/*-remove-*/manifests/etcd.yaml /var/lib/etcd.yaml
		rm -rf /var/lib/etcd/member`)
	k.Must(n.AwaitReady(k.Patiently()))
	return k.withEtcdOn(others)
}

// The third node is a member again at the end, by a restore on all three.
func TestAnAPIServerWithoutEtcdIsFencedAndGetsNoData(t *testing.T) {
	whole := take(t)
	manifests := whole.manifests()
	alone := whole.nodes[2]
	k := whole.leave(alone)
	s := k.scene()

	t.Run("not listed, it is refused", func(t *testing.T) {
		k := k.with(t)
		w := k.before(s)
		r := k.want(5, k.nodes[0], "restore", "--yes", "--nodes", "cp1,cp2", s.backup)
		for _, word := range []string{alone.Address, "--api-servers-stopped"} {
			if !strings.Contains(r.stderr, word) {
				t.Errorf("it does not say %q:\n%s", word, r.stderr)
			}
		}
		k.be(wholeOld, w)
		k.allClosed()
	})

	t.Run("listed, it takes part without data", func(t *testing.T) {
		k := k.with(t)
		w := k.before(s)
		k.want(0, k.nodes[0], k.restore(s)...)
		k.be(wholeNew, w)
		k.allClosed()
		k.shell(alone, "test ! -e /var/lib/etcd/member && test ! -e "+k.lastRun(alone).Path+"/data")
	})

	t.Run("stopped, it need not be listed", func(t *testing.T) {
		k := k.with(t)
		w := k.before(s)
		k.shell(alone, stopAll)
		two := k.only(k.etcds)
		two.want(0, k.nodes[0], two.restore(s, "--api-servers-stopped")...)
		two.be(wholeNew, w)
		k.Must(alone.StartKubelet(k.Patiently()))
		k.be(wholeNew, w)
		k.allClosed()
	})

	w := k.before(s)
	k.shell(alone, stopAll+"mv /var/lib/etcd.yaml /etc/kubernetes/manifests/")
	// The kubelet is stopped.
	k.shell(alone, fmt.Sprintf(`sed -i.old 's#--etcd-servers=.*#--etcd-servers=https://127.0.0.1:2379#' `+
		`%s && rm %[1]s.old`, apiServerManifest))
	whole.want(0, whole.nodes[0], whole.restore(s)...)
	whole.be(wholeNew, w)
	whole.allClosed()
	whole.sameManifests(manifests)
}

func TestOtherClientsOfEtcdAreNamed(t *testing.T) {
	k := take(t)
	s := k.scene()
	host := k.rig.Subnet + ".1" // the machine that the nodes are on, and that is none of them
	notes := func() string {
		var plan struct{ Notes []string }
		k.Must(json.Unmarshal([]byte(k.want(0, k.nodes[0], "restore",
			"--dry-run", "--output", "json", "--nodes", k.names(), s.backup).stdout), &plan))
		return strings.Join(plan.Notes, "\n")
	}
	if before := notes(); strings.Contains(before, host) {
		t.Fatalf("nobody is connected from %s, and it is named: %s", host, before)
	}
	clients, err := dialEtcds(k.nodes[1:2]) // of the etcd of another node than the coordinator's
	k.Must(err)
	defer clients.close()
	_, err = clients.clients[0].Get(k.Patiently(), "connected")
	k.Must(err)
	if now := notes(); !strings.Contains(now, host) {
		t.Errorf("%s is connected to %s, and is not named: %s", host, k.nodes[1].Name, now)
	}
}
