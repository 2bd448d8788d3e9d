package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Process is a process on a node.
type Process struct {
	PID     int       // in the node's PID namespace
	Started time.Time // to 10 ms
	Args    []string
}

// Processes returns the node's processes whose program has that name, including
// those in containers.
func (n *Node) Processes(ctx context.Context, program string) ([]Process, error) {
	// One line each: the kernel's numbers, and the command line. A process that
	// ends meanwhile has none.
	out, err := n.Exec(ctx, "sh", "-c", `for p in $(pgrep -x "$1"); do
		stat=$(cat /proc/$p/stat 2>/dev/null) && args=$(tr '\0' '\t' 2>/dev/null </proc/$p/cmdline) && echo "$p ${stat##*) }	$args"
	done; true`, "sh", program)
	if err != nil {
		return nil, err
	}
	booted, err := bootTime()
	if err != nil {
		return nil, err
	}
	var all []Process
	for line := range strings.Lines(string(out)) {
		words := strings.Split(strings.TrimRight(line, "\t\n"), "\t")
		numbers := strings.Fields(words[0])
		if len(numbers) < 21 || numbers[1] == "Z" {
			continue
		}
		pid, err := strconv.Atoi(numbers[0])
		if err != nil {
			return nil, err
		}
		// Field 22 of proc_pid_stat(5), in hundredths of a second.
		ticks, err := strconv.ParseInt(numbers[20], 10, 64)
		if err != nil {
			return nil, err
		}
		all = append(all, Process{PID: pid, Started: booted.Add(time.Duration(ticks) * 10 * time.Millisecond),
			Args: words[1:]})
	}
	return all, nil
}

// bootTime returns when this machine booted.
func bootTime() (time.Time, error) {
	now := time.Now()
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{}, err
	}
	up, _, _ := strings.Cut(string(data), " ")
	seconds, err := strconv.ParseFloat(up, 64)
	return now.Add(-time.Duration(seconds * float64(time.Second))), err
}

// Kill kills with SIGKILL every process of the node whose command line matches the pattern (as
// pkill -f does), and returns their number. A process that is about to start another one counts
// twice: until exec, the child has its command line.
func (n *Node) Kill(ctx context.Context, pattern string) (int, error) {
	out, err := n.Exec(ctx, "pkill", "-KILL", "--count", "-f", pattern)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 { // none
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// Reboot pulls the node's plug and switches it on again.
func (n *Node) Reboot(ctx context.Context) error {
	if err := n.KillEverything(ctx); err != nil {
		return err
	}
	return n.Boot(ctx)
}

// CutOff unplugs the node's network cable: neither the other nodes nor the host reach it, and
// connections hang as they would.
func (n *Node) CutOff(ctx context.Context) error { return ip(ctx, "link set", n.outside(), "down") }

// Connect plugs the cable back in. It also works on a node that is not cut off.
func (n *Node) Connect(ctx context.Context) error { return ip(ctx, "link set", n.outside(), "up") }

// Separate drops every packet between the two nodes, which others still reach, until Unite, or
// until one of them boots.
func (n *Node) Separate(ctx context.Context, other *Node) error {
	return errors.Join(n.forget(ctx, other), other.forget(ctx, n))
}

func (n *Node) forget(ctx context.Context, other *Node) error {
	_, err := n.Exec(ctx, "ip", "route", "replace", "blackhole", other.Address+"/32")
	return err
}

// Unite undoes Separate.
func (n *Node) Unite(ctx context.Context, other *Node) error {
	var errs []error
	for _, pair := range [][2]*Node{{n, other}, {other, n}} {
		_, err := pair[0].Exec(ctx, "ip", "route", "del", "blackhole", pair[1].Address+"/32")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// SmallDisk mounts a separate file system of that size on a directory of the node below /var/lib,
// which is empty at first. It lasts until Unmount, or until the node is switched off.
func (n *Node) SmallDisk(ctx context.Context, dir string, bytes int64) error {
	_, err := n.Exec(ctx, "sh", "-ec",
		fmt.Sprintf("mkdir -p %[1]s; mount -t tmpfs -o size=%[2]d,mode=0700 etcdpod-small %[1]s", dir, bytes))
	return err
}

// Unmount removes a SmallDisk, and reveals what was there before.
func (n *Node) Unmount(ctx context.Context, dir string) error {
	_, err := n.Exec(ctx, "umount", dir)
	return err
}

// Remove takes a machine away for good, with its disk and its address. What the others
// know about it stays.
func (c *Cluster) Remove(ctx context.Context, n *Node) error {
	if err := n.KillEverything(ctx); err != nil {
		return err
	}
	if err := n.unplug(ctx); err != nil {
		return err
	}
	c.Nodes = slices.DeleteFunc(slices.Clone(c.Nodes), func(other *Node) bool { return other == n })
	return errors.Join(c.save(), os.RemoveAll(n.Dir))
}

// Reinstall gives a machine an empty disk and a new system: its name and its address stay, and not
// even its host key. It is switched on afterwards, without a control plane.
func (c *Cluster) Reinstall(ctx context.Context, n *Node) error {
	if err := n.KillEverything(ctx); err != nil {
		return err
	}
	images, err := c.archives(ctx)
	if err != nil {
		return err
	}
	defer removeAll(images)
	if err := os.RemoveAll(n.Dir); err != nil {
		return err
	}
	if err := n.create(ctx); err != nil {
		return err
	}
	if err := c.acquaint(); err != nil {
		return err
	}
	return n.install(ctx, images)
}

// Add makes a new machine: switched on, known to all others, with a fresh address, and without a
// control plane. Join makes it one.
func (c *Cluster) Add(ctx context.Context, name string) (*Node, error) {
	for _, n := range c.Nodes {
		if n.Name == name {
			return nil, fmt.Errorf("cannot add %s: there is one", name)
		}
	}
	n := c.node(name)
	n.Address = c.address(n.Index)
	images, err := c.archives(ctx)
	if err != nil {
		return nil, err
	}
	defer removeAll(images)
	c.Nodes = append(c.Nodes, n)
	if err := n.create(ctx); err != nil {
		return nil, err
	}
	if err := c.acquaint(); err != nil {
		return nil, err
	}
	return n, n.install(ctx, images)
}

// Join makes a new machine a control plane of the cluster with kubeadm join, and returns when its
// API server is ready. The first node uploads its certificates again: kubeadm deletes them two
// hours after each upload.
func (n *Node) Join(ctx context.Context) error {
	if _, err := n.cluster.Nodes[0].Exec(ctx, "kubeadm", "init",
		"phase", "upload-certs", "--upload-certs", "--config=/var/lib/kubeadm.yaml"); err != nil {
		return fmt.Errorf("cannot let %s join: %w", n.Name, err)
	}
	if err := n.joinCluster(ctx); err != nil {
		return err
	}
	return n.AwaitReady(ctx)
}
