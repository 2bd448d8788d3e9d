package sandbox_test

import (
	"context"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

func TestThreeControlPlanesAreOneCluster(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := sandbox.NewControlPlanes(ctx, sandbox.Options{EtcdBinary: etcdBinary(t, binaries.Etcd36)},
		"cp1", "cp2", "cp3")
	must(t, err)
	defer func() { must(t, c.Destroy()) }()

	must(t, c.Node("cp1").Load(ctx, 20, 100))
	first, err := c.Node("cp1").AllKeys(ctx)
	must(t, err)
	for _, name := range []string{"cp2", "cp3"} {
		keys, err := c.Node(name).AllKeys(ctx)
		must(t, err)
		if diff := sandbox.Diff(first, keys); len(diff) > 0 {
			t.Errorf("%s holds other data: %v", name, diff)
		}
	}
	etcd, err := c.Node("cp3").EtcdClient()
	must(t, err)
	defer etcd.Close()
	members, err := etcd.MemberList(ctx)
	must(t, err)
	if len(members.Members) != 3 {
		t.Errorf("the members are %v", members.Members)
	}

	out, err := c.Command(ctx, "cp1", "ssh cp2 ssh cp3 systemctl stop kubelet && ssh cp2 systemctl stop kubelet").
		CombinedOutput()
	if err != nil {
		t.Errorf("cp1 cannot stop the kubelets of others: %v\n%s", err, out)
	}
	must(t, c.PowerOff("cp3"))
	out, err = c.Command(ctx, "cp1", "ssh cp3 true").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "No route to host") {
		t.Errorf("cp3 is off, and answers: %v %s", err, out)
	}
	must(t, c.PowerOn(ctx, "cp3"))
	must(t, c.Node("cp2").StartKubelet(ctx))
	must(t, c.WaitReady(ctx))
}
