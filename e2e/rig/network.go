package rig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// freeSubnet returns the first three numbers of a /24 that no interface of this host uses.
func freeSubnet() (string, error) {
	taken, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("cannot find a free subnet: %w", err)
	}
next:
	for third := range 256 {
		subnet := fmt.Sprintf("10.213.%d", third)
		for _, a := range taken {
			if n, ok := a.(*net.IPNet); ok && n.Contains(net.ParseIP(subnet+".1")) {
				continue next
			}
		}
		return subnet, nil
	}
	return "", errors.New("cannot find a free subnet: all of 10.213.0.0/16 is taken")
}

// makeBridge makes the cluster's bridge, and gives its nodes their addresses.
func (c *Cluster) makeBridge(ctx context.Context) error {
	free, err := oneByOne()
	if err != nil {
		return err
	}
	defer free()
	subnet, err := freeSubnet()
	if err != nil {
		return err
	}
	c.Subnet = subnet
	for _, n := range c.Nodes {
		n.Address = c.address(n.Index)
	}
	if err := ip(ctx, "link add", c.Bridge, "type bridge"); err != nil {
		return err
	}
	if err := ip(ctx, "addr add", c.Subnet+".1/24 dev", c.Bridge); err != nil {
		return err
	}
	return ip(ctx, "link set", c.Bridge, "up")
}

func (c *Cluster) address(index int) string { return fmt.Sprintf("%s.%d", c.Subnet, 11+index) }

// removeBridge removes the bridge and what is left of the nodes' cables: the kernel keeps
// a dead node's network namespace, and with it the cable, while one of its connections
// waits for an answer.
func (c *Cluster) removeBridge(ctx context.Context) error {
	for _, n := range c.Nodes {
		if err := n.unplug(ctx); err != nil {
			return err
		}
	}
	return removeLink(ctx, c.Bridge)
}

// outside is the host's end of the node's cable.
func (n *Node) outside() string { return n.cluster.Bridge + "." + strconv.Itoa(n.Index) }

// plugIn connects the node to the bridge and returns the name of the interface in its network
// namespace. Both ends of the cable go with the namespace.
func (n *Node) plugIn(ctx context.Context) (string, error) {
	outside := n.outside()
	inside := outside + "n"
	if err := n.unplug(ctx); err != nil {
		return "", err
	}
	if err := ip(ctx, "link add", outside, "type veth peer name",
		inside, "address", n.hardwareAddress(), "netns", strconv.Itoa(n.PID)); err != nil {
		return "", err
	}
	return inside, ip(ctx, "link set", outside, "master", n.cluster.Bridge, "up")
}

// hardwareAddress stays the same after a reboot, like a machine's: others remember it for a while.
func (n *Node) hardwareAddress() string { return fmt.Sprintf("02:ec:d0:00:00:%02x", 11+n.Index) }

// unplug removes the node's cable, unless the kernel has already done so with the
// node's network namespace.
func (n *Node) unplug(ctx context.Context) error { return removeLink(ctx, n.outside()) }

// removeLink removes an interface, and is content with one that is gone: the kernel may take a
// cable away between a look and the removal, and ip words that in more than one way.
func removeLink(ctx context.Context, name string) error {
	gone := func() bool {
		_, err := os.Stat("/sys/class/net/" + name)
		return errors.Is(err, fs.ErrNotExist)
	}
	if gone() {
		return nil
	}
	if err := ip(ctx, "link del", name); err != nil && !gone() {
		return err
	}
	return nil
}

func ip(ctx context.Context, args ...string) error {
	line := strings.Join(args, " ")
	if out, err := exec.CommandContext(ctx, "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", line, err, strings.TrimSpace(string(out)))
	}
	return nil
}
