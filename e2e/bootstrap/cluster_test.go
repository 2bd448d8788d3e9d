//go:build e2e

// Package bootstrap makes real clusters as docs/kubeadm.md and docs/topologies.md tell
// people to, on machines that the rig runs: root, Linux. Whatever is typed and written
// there is read from the pages.
package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig"
	"github.com/etcdpod/etcdpod/e2e/rig/hand"
)

// cluster is machines on which there is no control plane yet, in the hands of one test.
type cluster struct {
	hand.Hand
	rig     *rig.Cluster
	balance *rig.Balancer
}

// machines makes new machines of these names. Where the cluster is balanced, the API servers of all
// that are named cp… are behind its address.
func machines(t *testing.T, o rig.Options) *cluster {
	t.Helper()
	o.Name = "bootstrap-" + o.Name
	k := (&cluster{}).with(t)
	dir, err := rig.Dir(o.Name)
	k.Must(err)
	k.Must(rig.Clear(k.Patiently(), dir))
	k.timed("machines", func() { k.rig, err = rig.Up(k.Patiently(), o) })
	k.Must(err)
	t.Cleanup(func() { k.end(o.Name) })
	k.Must(k.rig.InstallEtcdpod(k.Patiently(), "etcdpod", ""))
	for _, n := range k.rig.Nodes { // as kubeadm's documentation asks for
		k.shell(n, "echo 1 >/proc/sys/net/ipv4/ip_forward")
	}
	if o.Balanced {
		k.balance, err = k.rig.Balance(k.named("cp")...)
		k.Must(err)
	}
	return k
}

// end takes the machines down, after telling what is on them where the test has failed.
func (k *cluster) end(name string) {
	if k.Failed() {
		k.tell()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := rig.GiveBack(ctx, name); err != nil {
		k.Error(err)
	}
	if k.balance != nil {
		if err := k.balance.Close(); err != nil {
			k.Error(err)
		}
	}
}

// with returns the same cluster for a subtest.
func (k *cluster) with(t *testing.T) *cluster {
	sub := *k
	sub.Hand = hand.Of(t)
	return &sub
}

// timed tells how long something took.
func (k *cluster) timed(what string, do func()) {
	k.Helper()
	start := time.Now()
	do()
	k.Logf("%s: %.1f s", what, time.Since(start).Seconds())
}

// named are the nodes whose names begin so.
func (k *cluster) named(prefix string) []*rig.Node {
	return slices.DeleteFunc(slices.Clone(k.rig.Nodes), func(n *rig.Node) bool {
		return !strings.HasPrefix(n.Name, prefix)
	})
}

func (k *cluster) node(name string) *rig.Node {
	k.Helper()
	i := slices.IndexFunc(k.rig.Nodes, func(n *rig.Node) bool { return n.Name == name })
	if i < 0 {
		k.Fatalf("there is no node %s", name)
	}
	return k.rig.Nodes[i]
}

// try runs a command line on a node and returns its exit code, and all that it printed.
func (k *cluster) try(n *rig.Node, line string) (code int, out string) {
	k.Helper()
	cmd := n.Command(k.Patiently(), "sh", "-c", line)
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		k.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), both.String()
}

// shell runs a script on a node, which must succeed, and returns what it printed.
func (k *cluster) shell(n *rig.Node, script string) string {
	k.Helper()
	out, err := n.Exec(k.Patiently(), "sh", "-ec", script)
	k.Must(err)
	return strings.TrimSpace(string(out))
}

// write writes a file of a node, as an administrator's editor would.
func (k *cluster) write(n *rig.Node, path, text string) {
	k.Helper()
	cmd := n.Command(k.Patiently(), "sh", "-ec", `mkdir -p "$(dirname "$1")"; cat >"$1"`, "sh", path)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		k.Fatalf("cannot write %s on %s: %v\n%s", path, n.Name, err, out)
	}
}

// eventually waits until something holds; it returns why it does not.
func (k *cluster) eventually(what string, holds func() error) {
	k.Helper()
	for deadline := time.Now().Add(hand.Patience); ; time.Sleep(200 * time.Millisecond) {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			k.Fatalf("never: %s: %v", what, err)
		}
	}
}

// tell tells what is on the nodes.
func (k *cluster) tell() {
	for _, n := range k.rig.Nodes {
		_, out := k.try(n, `etcdpod runs; ps -eo pid,etime,args | grep -v '\[' | cut -c1-160; ls -la /etc/kubernetes/manifests /var/lib/etcd
			tail -n 15 /var/log/kubelet.log; for f in $(ls -t /var/log/pods/*/*/*.log | head -n 4); do echo "$f"; tail -n 8 "$f"; done`)
		k.Logf("== %s\n%s", n.Name, out)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// working returns when the API servers of these nodes are ready, and controllers work,
// as each of them shows.
func (k *cluster) working(nodes ...*rig.Node) {
	k.Helper()
	ctx := k.Patiently()
	for _, n := range nodes {
		k.Must(n.AwaitReady(ctx))
		client, err := n.Client()
		k.Must(err)
		k.Must(rig.AwaitControllers(ctx, client))
	}
}
