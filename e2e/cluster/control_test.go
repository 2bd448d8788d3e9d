//go:build e2e

package cluster

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"k8s.io/client-go/kubernetes"

	"github.com/etcdpod/etcdpod/e2e/rig"
	"github.com/etcdpod/etcdpod/e2e/rig/hand"
	"github.com/etcdpod/etcdpod/e2e/schema"
)

// control is the control plane in the hands of one test.
type control struct {
	hand.Hand
	cluster *rig.Cluster
	node    *rig.Node
	client  kubernetes.Interface
}

// take gives the control plane to a test, working. When the test has failed it tells
// what is on the node.
func take(t *testing.T) *control {
	t.Helper()
	c, err := attach()
	if err != nil {
		t.Fatal(err)
	}
	k := (&control{cluster: c, node: c.Node(0)}).with(t)
	k.client, err = c.Client()
	if err != nil {
		t.Fatal(err)
	}
	k.settle()
	t.Cleanup(func() {
		if t.Failed() {
			k.with(t).tell()
		}
	})
	return k
}

// with returns the same control plane for a subtest.
func (k *control) with(t *testing.T) *control {
	sub := *k
	sub.Hand = hand.Of(t)
	return &sub
}

// settle ends what an earlier test that failed left open.
func (k *control) settle() {
	k.Helper()
	if !k.node.Running() {
		k.Must(k.node.Boot(k.Patiently()))
	}
	if r := k.openRun(); r.ID != "" {
		k.Logf("an earlier test left %s open, in %s", r.ID, r.Phase)
		if k.etcdpod("resume").code != 0 {
			k.etcdpod("rollback")
		}
	}
	k.awaitReady()
}

func (k *control) awaitReady() {
	k.Helper()
	k.Must(k.node.AwaitReady(k.Patiently()))
}

// awaitWorking returns when a new Deployment gets its ReplicaSet.
func (k *control) awaitWorking() {
	k.Helper()
	k.Must(k.cluster.AwaitWorking(k.Patiently()))
}

// shell runs a script on the node and returns what it printed.
func (k *control) shell(script string) string {
	k.Helper()
	out, err := k.node.Exec(k.Patiently(), "sh", "-ec", script)
	k.Must(err)
	return strings.TrimSpace(string(out))
}

// result is what a finished etcdpod left.
type result struct {
	stdout, stderr string
	code           int
}

// etcdpod runs etcdpod on the node to its end.
func (k *control) etcdpod(args ...string) result {
	k.Helper()
	cmd := k.node.Command(k.Patiently(), append([]string{"etcdpod"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		k.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// want runs etcdpod and insists on its exit code.
func (k *control) want(code int, args ...string) result {
	k.Helper()
	r := k.etcdpod(args...)
	if r.code != code {
		k.Fatalf("etcdpod %s ended with %d, not %d:\n%s%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	k.Must(schema.Check(args, r.stdout, r.stderr, r.code))
	return r
}

// tell logs what may explain a failure.
func (k *control) tell() {
	if !k.node.Running() {
		k.Log("the node is switched off")
		return
	}
	out, err := k.node.Exec(k.Patiently(), "sh", "-c", `ls -la /etc/kubernetes/manifests /var/lib/etcdpod/runs/* /var/lib/etcd
		ps -e -o pid,lstart,args | grep -E 'etcd|kube' | grep -v grep | cut -c1-160
		etcdpod runs
		for pod in etcd kube-apiserver; do tail -n 15 $(ls -t /var/log/pods/kube-system_$pod-*/$pod/*.log | head -n 1); done`)
	k.Logf("on the node: %v\n%s", err, out)
}
