//go:build e2e

package bootstrap

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

const config = "/etc/kubernetes/kubeadm.yaml"

// The parts build on each other: each finds the cluster as the one before has left it.
func TestKubeadmHandsItsEtcdOver(t *testing.T) {
	t.Parallel() // most of the time goes to waiting
	k := machines(t, rig.Options{Name: "kubeadm", Machines: []string{"cp1", "cp2", "cp3", "cp4", "cp5"},
		Balanced: true})
	p, stacked := follow(t, "kubeadm.md", "", externalCA),
		follow(t, "topologies.md", "One, three and five stacked members")
	five := follow(t, "runbooks/three-to-five.md", "")
	cp1, cp2, cp3 := k.node("cp1"), k.node("cp2"), k.node("cp3")

	k.part("kubeadm makes a control plane with etcd from etcdpod", func(k *cluster) {
		k.initialised(p, cp1)
		k.wantMembers(cp1)
	})
	k.part("kubeadm joins it", func(k *cluster) {
		k.writes(p, cp2, config, "cp3")
		k.types(p, cp2, "kubeadm join --config "+config, 0)
	})
	k.part("etcdpod joins it", func(k *cluster) {
		k.joined(p, cp3)
		k.working(cp1, cp2, cp3)
		k.wantMembers(cp1, cp2, cp3)
	})
	k.part("kubeadm and etcdpod see the same certificates", func(k *cluster) { k.sameDates(p, cp1, cp2, cp3) })
	k.part("strangers are refused", func(k *cluster) { k.strangers(cp1, cp2, cp3) })
	k.part("certificates are renewed while a client writes", func(k *cluster) { k.renewed(p, cp1, cp2, cp3) })
	k.part("kubeadm upgrades it", func(k *cluster) { k.upgraded(p, cp1, cp2, cp3) })
	k.part("kubeadm resets a member, which joins again", func(k *cluster) { k.reset(p, cp3, cp1, cp2) })
	k.part("it grows to five", func(k *cluster) {
		for _, n := range k.rig.Nodes[3:] {
			k.joined(p, n)
			if out := k.types(stacked, cp1, "etcdpod status",
				6); !regexp.MustCompile(`(?m)^members .*\b` + n.Name + `\b`).MatchString(out) {
				k.Errorf("etcdpod status does not name %s:\n%s", n.Name, out)
			}
		}
		k.working(k.rig.Nodes...)
		k.wantMembers(k.rig.Nodes...)
	})
	k.part("all API servers list all members, one after the other", func(k *cluster) { k.lists(five, cp1) })
	k.part("an API server that lists all members outlives its own", func(k *cluster) { k.outlives(stacked, cp2) })
	k.part("it shrinks to three", func(k *cluster) { k.shrinks(five, cp1) })
	k.part("a balancer leads past a node that is lost", func(k *cluster) { k.balanced(cp1) })
	k.ends(p)
	k.ends(stacked)
}

// part is a subtest without which the others make no sense.
func (k *cluster) part(name string, do func(*cluster)) {
	k.Helper()
	if !k.Run(name, func(t *testing.T) { k.with(t).timed(name, func() { do(k.with(t)) }) }) {
		k.FailNow()
	}
}

func (k *cluster) initialised(p *page, n *rig.Node) {
	k.Helper()
	k.writes(p, n, config, n.Name)
	k.types(p, n, "etcdpod init phase certs --config "+config+" --yes", 0)
	k.types(p, n, "etcdpod init phase render-etcd --config "+config+" --yes", 0)
	made := k.files(n, pkiDir+"etcd", "/etc/kubernetes/manifests/etcd.yaml")
	k.types(p, n, k.starting(p, "kubeadm init --config"), 0)
	if now := k.files(n, pkiDir+"etcd", "/etc/kubernetes/manifests/etcd.yaml"); now != made {
		k.Errorf("kubeadm has changed what etcdpod has made:\n%s\nit was\n%s", now, made)
	}
	if out := k.types(p, n, "etcdpod status", 6); !strings.Contains(out, "serves") ||
		!strings.Contains(out, "there is no backup") {
		k.Errorf("etcdpod status says:\n%s", out)
	}
}

// files are the hashes of files of a node.
func (k *cluster) files(n *rig.Node, paths ...string) string {
	k.Helper()
	return k.shell(n, "find "+strings.Join(paths, " ")+" -type f | sort | xargs sha256sum")
}

// joined makes a node a control plane by kubeadm, with a member by etcdpod.
func (k *cluster) joined(p *page, n *rig.Node) {
	k.Helper()
	k.writes(p, n, config, "cp3")
	k.types(p, n, k.starting(p, "kubeadm join --config "+config+" --skip-phases=etcd-join"), 0)
	k.types(p, n, "etcdpod join --config "+config+" --yes", 0)
	k.types(p, n, k.starting(p, "kubeadm join --config "+config+" --skip-phases=preflight"), 0)
}

// certificate is a line of the tables of kubeadm certs check-expiration, and of etcdpod's.
var certificate = regexp.MustCompile(`(?m)^([a-z-]+) +([A-Z][a-z]{2} \d\d, \d{4} \d\d:\d\d UTC)`)

// sameDates holds etcdpod's dates against kubeadm's.
func (k *cluster) sameDates(p *page, nodes ...*rig.Node) {
	k.Helper()
	for _, n := range nodes {
		kubeadms, etcdpods := map[string]string{}, map[string]string{}
		for _, found := range certificate.FindAllStringSubmatch(
			k.types(p, n, "kubeadm certs check-expiration", 0), -1) {
			kubeadms[found[1]] = found[2]
		}
		for _, found := range certificate.FindAllStringSubmatch(k.types(p, n, "etcdpod certs check", 0), -1) {
			etcdpods[found[1]] = found[2]
		}
		for _, name := range []string{
			"etcd-server", "etcd-peer", "etcd-healthcheck-client",
			"apiserver-etcd-client", "etcd-ca", "apiserver", "ca",
		} {
			if kubeadms[name] == "" || kubeadms[name] != etcdpods[name] {
				k.Errorf("%s: %s ends at %q as kubeadm has it, and at %q as etcdpod has it",
					n.Name, name, kubeadms[name], etcdpods[name])
			}
		}
	}
}

// renewed renews the certificates on one node after the other.
func (k *cluster) renewed(p *page, nodes ...*rig.Node) {
	k.Helper()
	w := k.writing(nodes...)
	written := func() {
		before := w.Count()
		k.eventually("something is written", func() error {
			if w.Count() <= before+5 {
				return errors.New("not yet")
			}
			return nil
		})
	}
	written()
	for _, n := range nodes {
		before := k.files(n, pkiDir+"etcd/peer.crt", pkiDir+"etcd/server.crt")
		k.types(p, n, "etcdpod certs renew --yes", 0)
		if k.files(n, pkiDir+"etcd/peer.crt", pkiDir+"etcd/server.crt") == before {
			k.Errorf("the certificates of %s are the old ones", n.Name)
		}
	}
	written()
	k.wantWritten(w, nodes...)
	k.wantMembers(nodes...)
	k.sameDates(p, nodes...)
}

// upgraded upgrades the first node and the third, which etcdpod has joined, to the version of
// Kubernetes that there is, and to another image of etcd, so that kubeadm renders every manifest
// anew. That the second could be upgraded, too, says nothing of etcdpod.
func (k *cluster) upgraded(p *page, first, second, third *rig.Node) {
	k.Helper()
	k.Must(k.rig.SetEtcdTag(k.Patiently(), rig.UpgradedEtcd))
	k.types(p, first, "kubeadm upgrade apply v1.37.2 --yes", 0)
	k.types(p, third, "kubeadm upgrade node", 0)
	for _, n := range []*rig.Node{first, third} {
		if image := k.shell(n, "grep image: /etc/kubernetes/manifests/etcd.yaml"); !strings.HasSuffix(image,
			":"+rig.UpgradedEtcd) {
			k.Errorf("%s was not upgraded: %s", n.Name, image)
		}
	}
	k.working(first, second, third)
	k.wantMembers(first, second, third)
	k.sameDates(p, first, third) // of which kubeadm has renewed all certificates
}

// reset takes a node out of the cluster, and joins it again.
func (k *cluster) reset(p *page, n *rig.Node, others ...*rig.Node) {
	k.Helper()
	k.types(p, n, "kubeadm reset --force", 0)
	k.wantMembers(others...)
	client, err := others[0].Client()
	k.Must(err)
	k.Must(client.CoreV1().Nodes().Delete(k.Patiently(), n.Name, metav1.DeleteOptions{}))
	k.joined(p, n)
	all := append([]*rig.Node{n}, others...)
	k.working(all...)
	k.wantMembers(all...)
}

// outlives stops the etcd of a node whose API server knows of the others.
func (k *cluster) outlives(p *page, n *rig.Node) {
	k.Helper()
	k.types(p, n, "etcdpod apiserver set --all-members --yes", 0)
	out := k.types(p, n, "etcdpod apiserver show", 0)
	for _, member := range k.rig.Nodes {
		if !strings.Contains(out, clientURL(member)+"  yes") {
			k.Errorf("etcdpod apiserver show does not say that %s serves:\n%s", clientURL(member), out)
		}
	}
	k.shell(n, "mv /etc/kubernetes/manifests/etcd.yaml /var/lib/; while pgrep -x etcd >/dev/null; do sleep 0.1; done")
	k.working(n)
	k.shell(n, "mv /var/lib/etcd.yaml /etc/kubernetes/manifests/")
	k.wantMembers(k.rig.Nodes...)
}

// lists has the API servers of all nodes list all members.
func (k *cluster) lists(p *page, from *rig.Node) {
	k.Helper()
	const set = "etcdpod apiserver set --all-members --nodes cp1,cp2,cp3,cp4,cp5"
	k.types(p, from, set+" --dry-run", 0)
	k.agrees(p, from, set)
	k.working(k.rig.Nodes...)
	out := k.types(p, from, "etcdpod apiserver show --nodes cp1,cp2,cp3,cp4,cp5", 0)
	for _, member := range k.rig.Nodes {
		if times := strings.Count(out, clientURL(member)); times < len(k.rig.Nodes) {
			k.Errorf("%s stands %d times in\n%s", clientURL(member), times, out)
		}
	}
	if out := k.agrees(p, from, set); !strings.Contains(out, "Nothing to do") {
		k.Errorf("once more it says\n%s", out)
	}
}

// shrinks removes the members of the last two nodes.
func (k *cluster) shrinks(p *page, from *rig.Node) {
	k.Helper()
	k.agrees(p, from, "etcdpod remove --nodes cp1,cp2,cp3,cp4,cp5 cp5")
	k.wantMembers(k.rig.Nodes[:4]...)
	k.agrees(p, from, "etcdpod remove --nodes cp1,cp2,cp3,cp4 cp4")
	k.wantMembers(k.rig.Nodes[:3]...)
	k.working(k.rig.Nodes[:3]...)
	if out := k.shell(from, "etcdpod apiserver show"); strings.Contains(out, clientURL(k.rig.Nodes[4])) {
		k.Errorf("the API server still names a member that was removed:\n%s", out)
	}
}

// balanced pulls the plug of a node, and asks for objects at the cluster's address.
func (k *cluster) balanced(lost *rig.Node) {
	k.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", k.rig.Kubeconfig())
	k.Must(err)
	if !strings.HasSuffix(config.Host, "//"+k.rig.Endpoint()) {
		k.Fatalf("the administrator's kubeconfig leads to %s", config.Host)
	}
	client, err := kubernetes.NewForConfig(config)
	k.Must(err)
	k.Must(rig.AwaitControllers(k.Patiently(), client))
	k.Must(lost.KillEverything(k.Patiently()))
	k.timed("controllers at the cluster's address, without "+lost.Name, func() {
		k.Must(rig.AwaitControllers(k.Patiently(), client))
	})
}
