//go:build e2e

package threenodes

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// cluster is the three control planes in the hands of one test.
type cluster struct {
	*testing.T
	ctx   context.Context
	rig   *rig.Cluster
	nodes []*rig.Node
	etcds []*rig.Node // those that run etcd
}

// take gives the three control planes to a test, working. When the test has failed it tells what is on the nodes.
func take(t *testing.T) *cluster {
	t.Helper()
	dir, err := rig.Dir(clusterName)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rig.Attach(dir)
	if err != nil {
		t.Fatal(err)
	}
	k := (&cluster{T: t, rig: c, nodes: c.Nodes, etcds: c.Nodes}).with(t)
	k.settle()
	t.Cleanup(func() {
		if t.Failed() {
			k.with(t).tell()
		}
	})
	return k
}

// with returns the same cluster for a subtest.
func (k *cluster) with(t *testing.T) *cluster {
	sub := *k
	sub.T, sub.ctx = t, context.WithoutCancel(t.Context())
	return &sub
}

// only returns the cluster as if it had these nodes and no other.
func (k *cluster) only(nodes []*rig.Node) *cluster {
	sub := *k
	sub.nodes, sub.etcds = nodes, nodes
	return &sub
}

// withEtcdOn returns the cluster in which these nodes run etcd, and the others an API server alone.
func (k *cluster) withEtcdOn(nodes []*rig.Node) *cluster {
	sub := *k
	sub.etcds = nodes
	return &sub
}

// within returns a context that ends with the time, in which something must have happened.
func (k *cluster) within(limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(k.ctx, limit)
	k.Cleanup(cancel)
	return ctx
}

// settle ends what an earlier test that failed left: nodes that are off or cut off, open runs.
func (k *cluster) settle() {
	k.Helper()
	for _, n := range k.nodes {
		if !n.Running() {
			k.must(n.Boot(k.within(time.Minute)))
		}
		k.must(n.Connect(k.within(time.Minute)))
	}
	for _, n := range k.nodes {
		if r := k.openRun(n); r.ID != "" {
			k.Logf("an earlier test left %s open on %s, in %s", r.ID, n.Name, r.Phase)
			if k.etcdpod(n, "resume").code != 0 {
				k.etcdpod(n, "rollback")
			}
		}
	}
	k.awaitReady()
}

// readyLimit is generous: this machine may be busy with other tests.
const readyLimit = 2 * time.Minute

func (k *cluster) awaitReady() {
	k.Helper()
	ctx := k.within(readyLimit)
	for _, n := range k.nodes {
		k.must(n.AwaitReady(ctx))
	}
}

func (k *cluster) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

// shell runs a script on a node and returns what it printed.
func (k *cluster) shell(n *rig.Node, script string) string {
	k.Helper()
	out, err := n.Exec(k.within(2*time.Minute), "sh", "-ec", script)
	k.must(err)
	return strings.TrimSpace(string(out))
}

// result is what a finished etcdpod left.
type result struct {
	stdout, stderr string
	code           int
}

// etcdpod runs etcdpod on a node to its end.
func (k *cluster) etcdpod(n *rig.Node, args ...string) result {
	k.Helper()
	cmd := n.Command(k.within(5*time.Minute), append([]string{"etcdpod"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		k.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// want runs etcdpod on a node and insists on its exit code.
func (k *cluster) want(code int, n *rig.Node, args ...string) result {
	k.Helper()
	r := k.etcdpod(n, args...)
	if r.code != code {
		k.Fatalf("etcdpod %s on %s ended with %d, not %d:\n%s%s", strings.Join(args, " "), n.Name, r.code, code, r.stdout, r.stderr)
	}
	return r
}

// tell logs what may explain a failure.
func (k *cluster) tell() {
	for _, n := range k.nodes {
		if !n.Running() {
			k.Logf("%s is switched off", n.Name)
			continue
		}
		out, err := n.Exec(k.within(time.Minute), "sh", "-c", `ls -la /etc/kubernetes/manifests /var/lib/etcdpod/runs/* /var/lib/etcd
			ps -e -o pid,lstart,args | grep -E 'etcd|kube|ssh' | grep -v grep | cut -c1-160
			etcdpod runs
			for pod in etcd kube-apiserver; do tail -n 10 $(ls -t /var/log/pods/kube-system_$pod-*/$pod/*.log | head -n 1); done`)
		k.Logf("on %s: %v\n%s", n.Name, err, out)
	}
}
