//go:build e2e

package bootstrap

import (
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// The members are on machines where no kubeadm ever runs; the control planes have none.
func TestMembersOnMachinesOfTheirOwn(t *testing.T) {
	t.Parallel() // most of the time goes to waiting
	k := machines(t, rig.Options{Name: "machines", Machines: []string{"cp1", "cp2", "etcd1", "etcd2", "etcd3"},
		Balanced: true})
	p, joining := follow(t, "topologies.md", "Members on machines of their own"), follow(t, "kubeadm.md", "")
	cp1, cp2, etcds := k.node("cp1"), k.node("cp2"), k.named("etcd")

	k.part("kubelets run static pods alone", func(k *cluster) {
		for _, n := range etcds {
			k.writes(p, n, "/etc/systemd/system/kubelet.service.d/20-etcd-service-manager.conf", "etcd1")
			k.writes(p, n, "/var/lib/kubelet/config.yaml", "etcd1")
			for _, command := range []string{
				"mkdir -p /etc/kubernetes/manifests /etc/kubernetes/pki/etcd",
				"systemctl daemon-reload", "systemctl restart kubelet",
			} {
				k.types(p, n, command, 0)
			}
		}
	})
	k.part("etcdpod makes the members", func(k *cluster) {
		k.writes(p, etcds[0], config, "on `etcd1`")
		k.types(p, etcds[0], "etcdpod init --config "+config+" --yes", 0)
		for _, n := range etcds[1:] {
			k.types(p, etcds[0],
				k.starting(p, "scp /etc/kubernetes/pki/etcd/ca.crt /etc/kubernetes/pki/etcd/ca.key "+n.Name), 0)
			k.writes(p, n, config, "on `etcd2`")
			k.types(p, n, k.starting(p, "etcdpod join"), 0)
		}
		k.wantMembers(etcds...)
	})
	k.part("API servers list all endpoints", func(k *cluster) {
		for _, command := range []string{
			"ssh cp1", "scp /etc/kubernetes/pki/etcd/ca.crt cp1", "scp /etc/kubernetes/pki/apiserver-etcd-client.crt",
		} {
			k.types(p, etcds[0], k.starting(p, command), 0)
		}
		k.writes(p, cp1, config, "on `cp1`")
		k.types(p, cp1, "kubeadm init --config "+config+" --upload-certs", 0)
		k.writes(joining, cp2, config, "cp3")
		k.types(p, cp2, "kubeadm join --config "+config, 0)
		var urls []string
		for _, n := range etcds {
			urls = append(urls, clientURL(n))
		}
		for _, n := range []*rig.Node{cp1, cp2} {
			if servers := k.shell(n,
				"grep -e --etcd-servers= /etc/kubernetes/manifests/kube-apiserver.yaml"); !strings.HasSuffix(servers,
				"="+strings.Join(urls, ",")) {
				k.Errorf("the API server of %s has %s", n.Name, servers)
			}
			if out := k.types(p, n, "etcdpod apiserver show", 0); strings.Count(out, "  yes  ") != len(etcds) {
				k.Errorf("etcdpod apiserver show says on %s:\n%s", n.Name, out)
			}
		}
		k.working(cp1, cp2)
	})
	k.part("strangers are refused", func(k *cluster) { k.strangers(etcds...) })
	k.part("a member's certificates are renewed where no API server is", func(k *cluster) {
		k.types(p, etcds[1], "etcdpod certs renew --yes", 0)
		k.wantMembers(etcds...)
	})
	k.part("a machine may be lost", func(k *cluster) {
		k.Must(etcds[0].KillEverything(k.Patiently()))
		k.working(cp1, cp2)
		k.Must(etcds[0].Boot(k.Patiently()))
		k.wantMembers(etcds...)
	})
	k.ends(p)
}
