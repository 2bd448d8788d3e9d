//go:build e2e

// Package machines uses etcdpod on real control planes whose machines are not as this host is:
// another containerd, other file systems, a whole systemd. On each it backs up, restores, renews
// certificates and adds a member. `make e2e-matrix` runs it: root, Debian.
package machines

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcdpod/etcdpod/e2e/rig"
	"github.com/etcdpod/etcdpod/e2e/rig/hand"
)

// control is a control plane of one node, at first, in the hands of one test.
type control struct {
	hand.Hand
	cluster *rig.Cluster
	node    *rig.Node
}

// on makes a control plane on such a machine.
func on(t *testing.T, name string, m rig.Machine) *control {
	t.Helper()
	name = "machines-" + name
	k := (&control{}).with(t)
	dir, err := rig.Dir(name)
	k.Must(err)
	k.Must(rig.Clear(k.Patiently(), dir))
	start := time.Now()
	k.cluster, err = rig.Up(k.Patiently(), rig.Options{Name: name, Machine: m})
	k.Must(err)
	t.Logf("up: %.1f s", time.Since(start).Seconds())
	k.node = k.cluster.Node(0)
	t.Cleanup(func() {
		k := k.with(t)
		if t.Failed() {
			k.tell()
		}
		k.Must(rig.GiveBack(k.Patiently(), name))
	})
	k.Must(k.cluster.InstallEtcdpod(k.Patiently(), "etcdpod", ""))
	return k
}

func (k *control) with(t *testing.T) *control {
	sub := *k
	sub.Hand = hand.Of(t)
	return &sub
}

// part is a subtest that the following ones need.
func (k *control) part(name string, test func(k *control)) {
	k.Helper()
	start := time.Now()
	if !k.Run(name, func(t *testing.T) { test(k.with(t)) }) {
		k.FailNow()
	}
	k.Logf("%s: %.1f s", name, time.Since(start).Seconds())
}

// shell runs a script on a node and returns what it printed.
func (k *control) shell(n *rig.Node, script string) string {
	k.Helper()
	out, err := n.Exec(k.Patiently(), "sh", "-ec", script)
	k.Must(err)
	return strings.TrimSpace(string(out))
}

// etcdpod runs etcdpod on a node, insists on its exit code, and returns its standard output.
func (k *control) etcdpod(n *rig.Node, code int, args ...string) string {
	k.Helper()
	cmd := n.Command(k.Patiently(), append([]string{"etcdpod"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		k.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		k.Fatalf("etcdpod %s ended with %d, not %d:\n%s%s", strings.Join(args, " "), got, code, &stdout, &stderr)
	}
	return stdout.String()
}

const mark = "etcdpod-e2e"

// put makes the cluster's mark say something.
func (k *control) put(value string) {
	k.Helper()
	client, err := k.cluster.Client()
	k.Must(err)
	maps := client.CoreV1().ConfigMaps(metav1.NamespaceDefault)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: mark}, Data: map[string]string{"value": value}}
	_, err = maps.Create(k.Patiently(), object, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = maps.Update(k.Patiently(), object, metav1.UpdateOptions{})
	}
	k.Must(err)
}

// says insists on what the cluster's mark says, as a node's API server shows it.
func (k *control) says(n *rig.Node, want string) {
	k.Helper()
	client, err := n.Client()
	k.Must(err)
	got, err := client.CoreV1().ConfigMaps(metav1.NamespaceDefault).Get(k.Patiently(), mark, metav1.GetOptions{})
	k.Must(err)
	if got.Data["value"] != want {
		k.Fatalf("on %s the cluster says %q, not %q", n.Name, got.Data["value"], want)
	}
}

// backup makes the mark say something new, takes a backup of that, and returns both.
func (k *control) backup() (file, then string) {
	k.Helper()
	then = rand.Text()
	k.put(then)
	return strings.TrimSpace(k.etcdpod(k.node, 0, "backup", "--quiet")), then
}

func (k *control) tell() {
	for _, n := range k.cluster.Nodes {
		out, err := n.Exec(k.Patiently(), "sh", "-c", `findmnt -R /var/lib; etcdpod runs; ls -la /etc/kubernetes/manifests /var/lib/etcd
			ps -eo pid,etime,args | grep -v '\[' | cut -c1-160; tail -n 20 /var/log/kubelet.log /var/log/containerd.log`)
		k.Logf("on %s: %v\n%s", n.Name, err, out)
	}
}
