//go:build e2e

package rig_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

func TestAControlPlaneComesUpSurvivesARebootAndLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	dir, err := rig.Dir("rig-test")
	if err != nil {
		t.Fatal(err)
	}
	if err := rig.Clear(ctx, dir); err != nil {
		t.Fatal(err)
	}
	settings := kernelSettings(t)
	var c *rig.Cluster
	timed(t, "up", func() error {
		c, err = rig.Up(ctx, rig.Options{Name: "rig-test"})
		return err
	})
	t.Cleanup(func() {
		if err := c.Down(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	node := c.Node(0)
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	configMaps := client.CoreV1().ConfigMaps(metav1.NamespaceDefault)
	want := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}, Data: map[string]string{"key": "value"}}
	if _, err := configMaps.Create(ctx, want, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	t.Run("systemctl speaks as systemd does", func(t *testing.T) {
		for _, step := range []struct {
			do     func(context.Context) error
			output string
			code   int
		}{
			{func(context.Context) error { return nil }, "active", 0},
			{node.StopKubelet, "inactive", 3},
			{node.StartKubelet, "active", 0},
		} {
			if err := step.do(ctx); err != nil {
				t.Fatal(err)
			}
			output, code := isActive(t, node)
			if output != step.output || code != step.code {
				t.Errorf("is-active says %s with %d, not %s with %d", output, code, step.output, step.code)
			}
		}
	})

	t.Run("a stopped kubelet leaves the containers alone", func(t *testing.T) {
		if err := node.StopKubelet(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := configMaps.Get(ctx, "kept", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
		if err := node.StartKubelet(ctx); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("a command is killed with its context, on the node, too", func(t *testing.T) {
		short, cancel := context.WithCancel(ctx)
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			_, err := node.Exec(short, "sleep", "76543")
			ended <- err
		}()
		script := func(text string) {
			t.Helper()
			if _, err := node.Exec(ctx, "sh", "-c", text); err != nil {
				t.Fatal(err)
			}
		}
		script("until pgrep -fx 'sleep 76543'; do sleep 0.05; done")
		cancel()
		if err := <-ended; err == nil {
			t.Fatal("sleep ended by itself")
		}
		// Forever, unless it is killed.
		script("while pgrep -fx 'sleep 76543'; do sleep 0.05; done")
	})

	t.Run("after a reboot everything is back", func(t *testing.T) {
		bootID := etcdContainer(t, node)
		if err := node.KillEverything(ctx); err != nil {
			t.Fatal(err)
		}
		if again, err := rig.Attach(dir); err != nil || again.Node(0).Running() {
			t.Fatalf("the node still runs, or %v", err)
		}
		timed(t, "boot", func() error { return node.Boot(ctx) })
		timed(t, "from boot to ready", func() error { return node.AwaitReady(ctx) })
		timed(t, "from ready to working", func() error { return c.AwaitWorking(ctx) })
		got, err := configMaps.Get(ctx, "kept", metav1.GetOptions{})
		if err != nil || got.Data["key"] != "value" {
			t.Errorf("the object that was there before: %v %v", got.Data, err)
		}
		if id := etcdContainer(t, node); id == bootID {
			t.Errorf("etcd's container %s survived the reboot", id)
		}
	})

	t.Run("the procedure by hand brings the snapshot back, and its outage is seen", func(t *testing.T) {
		if err := node.SnapshotByHand(ctx, "/var/lib/by-hand.db"); err != nil {
			t.Fatal(err)
		}
		late := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "late"}}
		if _, err := configMaps.Create(ctx, late, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		meter, err := node.Meter(ctx)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := rig.RestoreByHand(ctx, "/var/lib/by-hand.db", node)
		if err != nil {
			t.Fatal(err)
		}
		outage, err := meter.End(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if outage.Ready <= 0 || outage.Working < outage.Ready {
			t.Errorf("an impossible outage: %+v", outage)
		}
		t.Logf("down to ready %.1f s, to working %.1f s; %v", outage.Ready.Seconds(), outage.Working.Seconds(), steps)
		if _, err := configMaps.Get(ctx, "kept", metav1.GetOptions{}); err != nil {
			t.Errorf("what the snapshot has: %v", err)
		}
		if _, err := configMaps.Get(ctx, "late", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("what was made after the snapshot is still there, or %v", err)
		}
	})

	t.Run("a new machine is entered by name, and joins", func(t *testing.T) {
		machine, err := c.Add(ctx, "spare")
		if err != nil {
			t.Fatal(err)
		}
		for _, way := range [][2]*rig.Node{{node, machine}, {machine, node}} {
			out, err := way[0].Exec(ctx, "ssh", way[1].Name, "hostname")
			if err != nil || strings.TrimSpace(string(out)) != way[1].Name {
				t.Errorf("from %s, ssh %s enters %q: %v", way[0].Name, way[1].Name, out, err)
			}
		}
		timed(t, "join", func() error { return machine.Join(ctx) })
	})

	t.Run("down leaves nothing", func(t *testing.T) {
		attached, err := rig.Attach(dir) // as after a crash of the process that started it
		if err != nil {
			t.Fatal(err)
		}
		link := fmt.Sprintf("/proc/%d/ns/net", attached.Node(0).PID)
		held, err := os.Open(link) // or the kernel gives its number to a node of another cluster
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		namespace, err := os.Readlink(link)
		if err != nil {
			t.Fatal(err)
		}
		timed(t, "down", func() error { return attached.Down(ctx) })
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there", dir)
		}
		if left := leftovers(t, c, namespace); len(left) > 0 {
			t.Errorf("left behind: %s", strings.Join(left, ", "))
		}
		if after := kernelSettings(t); after != settings {
			t.Errorf("the host's kernel settings were %s and are %s", settings, after)
		}
	})
}

// leftovers returns what the host still has of the cluster: processes in its node's network
// namespace, mounts, interfaces, cgroups.
func leftovers(t *testing.T, c *rig.Cluster, namespace string) []string {
	var left []string
	processes, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range processes {
		if name, err := os.Readlink(link); err == nil && name == namespace {
			left = append(left, link)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, c.Dir) {
			left = append(left, line)
		}
	}
	for _, pattern := range []string{"/sys/class/net/", "/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		names, err := filepath.Glob(pattern + c.Bridge + "*")
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, names...)
	}
	return left
}

// kernelSettings returns the settings that a kubelet would change.
func kernelSettings(t *testing.T) string {
	var all []string
	for _, name := range []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"} {
		value, err := os.ReadFile("/proc/sys/" + name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name+"="+strings.TrimSpace(string(value)))
	}
	return strings.Join(all, " ")
}

func etcdContainer(t *testing.T, n *rig.Node) string {
	out, err := n.Exec(t.Context(), "sh", "-c", "ctr --namespace k8s.io tasks list | grep RUNNING")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := n.Exec(t.Context(), "pgrep", "-x", "etcd")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 3 && f[1] == strings.TrimSpace(string(pid)) {
			return f[0]
		}
	}
	t.Fatalf("no container of etcd's process %s in\n%s", pid, out)
	return ""
}

func isActive(t *testing.T, n *rig.Node) (string, int) {
	out, err := n.Exec(t.Context(), "systemctl", "is-active", "kubelet")
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return strings.TrimSpace(string(out)), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out)), 0
}

func timed(t *testing.T, what string, do func() error) {
	t.Helper()
	start := time.Now()
	if err := do(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %.1f s", what, time.Since(start).Seconds())
}
