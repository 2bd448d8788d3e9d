//go:build e2e

package bootstrap

import (
	"testing"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

func TestKubeadmHandsItsEtcdOver(t *testing.T) {
	k := machines(t, rig.Options{Name: "kubeadm", Machines: []string{"cp1", "cp2", "cp3"}, Balanced: true})
	p := follow(t, "kubeadm.md")
	cp1, cp2, cp3 := k.node("cp1"), k.node("cp2"), k.node("cp3")
	const config = "/etc/kubernetes/kubeadm.yaml"

	k.writes(p, cp1, config, "cp1")
	k.types(p, cp1, "etcdpod init phase certs --config "+config+" --yes", 0)
	k.types(p, cp1, "etcdpod init phase render-etcd --config "+config+" --yes", 0)
	k.types(p, cp1, k.starting(p, "kubeadm init --config"), 0)
	k.types(p, cp1, "etcdpod status", 6)

	k.writes(p, cp2, config, "cp3")
	k.types(p, cp2, "kubeadm join --config "+config, 0)

	k.writes(p, cp3, config, "cp3")
	k.types(p, cp3, k.starting(p, "kubeadm join --config "+config+" --skip-phases=etcd-join"), 0)
	k.types(p, cp3, "etcdpod join --config "+config+" --yes", 0)
	k.types(p, cp3, k.starting(p, "kubeadm join --config "+config+" --skip-phases=preflight"), 0)
	k.timed("working", func() { k.must(k.rig.AwaitWorking(k.within(commandLimit))) })
}
