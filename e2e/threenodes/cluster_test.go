//go:build e2e

package threenodes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig"
	"github.com/etcdpod/etcdpod/e2e/rig/hand"
	"github.com/etcdpod/etcdpod/e2e/schema"
)

// cluster is the three control planes in the hands of one test.
type cluster struct {
	hand.Hand
	rig   *rig.Cluster
	nodes []*rig.Node
	etcds []*rig.Node // those that run etcd
}

// take gives the three control planes to a test, working: new ones, where an earlier test left the
// others in a way that cannot be mended. When the test has failed it tells what is on the nodes.
func take(t *testing.T) *cluster {
	t.Helper()
	k := attach(t)
	if err := k.settle(k.Patiently()); err != nil {
		t.Logf("the cluster is made anew, as an earlier test has left it: %v", err)
		k.tell()
		k = anew(t)
	}
	k.tellOnFailure()
	return k
}

// tellOnFailure makes the test tell at its end what is on the nodes, when it has failed.
func (k *cluster) tellOnFailure() {
	k.Cleanup(func() {
		if k.Failed() {
			k.tell()
		}
	})
}

// attach gives the cluster that is there to a test, as it is.
func attach(t *testing.T) *cluster {
	t.Helper()
	dir, err := rig.Dir(clusterName)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rig.Attach(dir)
	if err != nil {
		t.Fatal(err)
	}
	return (&cluster{rig: c, nodes: c.Nodes, etcds: c.Nodes}).with(t)
}

// anew takes the cluster down and gives a new one to a test.
func anew(t *testing.T) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Minute)
	defer cancel()
	dir, err := rig.Dir(clusterName)
	if err != nil {
		t.Fatal(err)
	}
	if err := rig.Clear(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := rig.Borrow(ctx, wanted); err != nil {
		t.Fatal(err)
	}
	return attach(t)
}

// with returns the same cluster for a subtest.
func (k *cluster) with(t *testing.T) *cluster {
	sub := *k
	sub.Hand = hand.Of(t)
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

// settle ends what an earlier test that failed left: nodes that are off or cut off, open runs. It
// is an error when the three do not work together then.
func (k *cluster) settle(ctx context.Context) error {
	if len(k.nodes) != wanted.Nodes {
		return fmt.Errorf("its nodes are %s", k.names())
	}
	for _, n := range k.nodes {
		if !n.Running() {
			if err := n.Boot(ctx); err != nil {
				return err
			}
		}
		if err := n.Connect(ctx); err != nil {
			return err
		}
	}
	for _, n := range k.nodes {
		out, err := n.Exec(ctx, "etcdpod", "runs", "--output", "json")
		if err != nil {
			return err
		}
		if !bytes.Contains(out, []byte(`"open"`)) {
			continue
		}
		k.Logf("an earlier test left a run open on %s: %s", n.Name, out)
		if _, err := n.Exec(ctx, "etcdpod", "resume"); err == nil {
			continue
		}
		if _, err := n.Exec(ctx, "etcdpod", "rollback"); err != nil {
			return err
		}
	}
	for _, n := range k.nodes {
		if err := n.AwaitReady(ctx); err != nil {
			return err
		}
	}
	_, err := agreedMembers(ctx, k.etcds)
	return err
}

func (k *cluster) awaitReady() {
	k.Helper()
	ctx := k.Patiently()
	for _, n := range k.nodes {
		k.Must(n.AwaitReady(ctx))
	}
}

// shell runs a script on a node and returns what it printed.
func (k *cluster) shell(n *rig.Node, script string) string {
	k.Helper()
	out, err := n.Exec(k.Patiently(), "sh", "-ec", script)
	k.Must(err)
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
	cmd := n.Command(k.Patiently(), append([]string{"etcdpod"}, args...)...)
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
		k.Fatalf("etcdpod %s on %s ended with %d, not %d:\n%s%s",
			strings.Join(args, " "), n.Name, r.code, code, r.stdout, r.stderr)
	}
	k.Must(schema.Check(args, r.stdout, r.stderr, r.code))
	return r
}

// tell logs what may explain a failure.
func (k *cluster) tell() {
	for _, n := range k.nodes {
		if !n.Running() {
			k.Logf("%s is switched off", n.Name)
			continue
		}
		out, err := n.Exec(k.Patiently(), "sh", "-c", `ls -la /etc/kubernetes/manifests /var/lib/etcdpod/runs/* /var/lib/etcd
			ps -e -o pid,lstart,args | grep -E 'etcd|kube|ssh' | grep -v grep | cut -c1-160
			etcdpod runs
			for pod in etcd kube-apiserver; do tail -n 10 $(ls -t /var/log/pods/kube-system_$pod-*/$pod/*.log | head -n 1); done`)
		k.Logf("on %s: %v\n%s", n.Name, err, out)
	}
}
