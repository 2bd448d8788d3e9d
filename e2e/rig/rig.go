// Package rig runs real kubeadm control planes on one machine: real kubelet, containerd, etcd, API
// server, controller-manager and scheduler, and an sshd, each node in its own namespaces on the
// cluster's own bridge. It needs root and Linux.
//
// A node is one process ([Node.Boot] starts nodeinit) with its own PID, mount, network, UTS and IPC
// namespace, and everything that runs below it. Killing that process pulls the plug: the kernel
// kills the rest and drops the node's mounts. The host keeps a bridge, the cluster's directory, and
// empty cgroups, which [Cluster.Down] removes, also for a cluster whose starter crashed.
package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// Options describes the cluster to make.
type Options struct {
	Name  string // of the cluster: letters, digits and hyphens; "rig" when empty
	Nodes int    // control-plane nodes; 1 when zero
	// Binaries.Etcd36 or Etcd37; empty: kubeadm's own image name, with Etcd37 in it.
	EtcdVersion string
	EtcdArgs    []string // more flags of etcd, NAME=VALUE without dashes, for kubeadm's extraArgs
	// Names of machines to switch on without kubeadm, instead of Nodes.
	Machines []string
	Balanced bool // the caller puts a Balancer at the cluster's address
	Machine
	// The cluster's directory, on a disk (etcd syncs), not below /var/lib or /etc; empty: see Dir.
	Dir string
}

// Cluster is a running cluster. Except for its nodes' first processes it stays the same all its
// life, or until Add or Remove.
type Cluster struct {
	Name        string
	Dir         string
	Root        string // of etcdpod's module
	Bridge      string
	Subnet      string // the first three numbers of its addresses
	EtcdVersion string
	EtcdArgs    []string
	Bare        bool // no node was made a control plane
	Balanced    bool
	Nodes       []*Node
	Machines    int // how many there have ever been
	Machine
}

// Dir returns a cluster's default directory: cluster/NAME below the cache.
func Dir(name string) (string, error) {
	cache, err := binaries.Cache()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "cluster", name), nil
}

// Up starts a new cluster and returns when all its control planes work. If it fails, it takes the
// cluster down but keeps its directory, which has the logs: the next Up of that name replaces it.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	c, err := plan(o)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(allowWatchers(), c.clear(ctx)); err != nil {
		return nil, fmt.Errorf("cannot start cluster %s: %w", c.Name, err)
	}
	if err := c.start(ctx); err != nil {
		err = fmt.Errorf("cannot start cluster %s: %w", c.Name, err)
		return nil, errors.Join(err, c.stop(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// plan fills in the options left open.
func plan(o Options) (*Cluster, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("cannot start a cluster: only root may make namespaces and mounts")
	}
	if o.Name == "" {
		o.Name = "rig"
	}
	if strings.Trim(o.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || len(o.Name) > 40 {
		return nil, fmt.Errorf("cannot start cluster %s: a name has up to 40 small letters, digits and hyphens", o.Name)
	}
	if o.EtcdVersion != "" && o.EtcdVersion != binaries.Etcd36 && o.EtcdVersion != binaries.Etcd37 {
		return nil, fmt.Errorf("cannot start cluster %s: etcd %s is not pinned, or refuses the flags "+
			"that kubeadm %s gives it: take %s or %s",
			o.Name, o.EtcdVersion, binaries.KubernetesVersion, binaries.Etcd36, binaries.Etcd37)
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("cannot start cluster %s: %w", o.Name, err)
	}
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	if o.Dir == "" {
		dir, err := Dir(o.Name)
		if err != nil {
			return nil, err
		}
		o.Dir = dir
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	for _, hidden := range []string{"/var/lib/", "/var/log/", "/etc/", "/run/", "/proc/"} {
		if strings.HasPrefix(dir+"/", hidden) {
			return nil, fmt.Errorf("cannot start a cluster in %s: its nodes have a %s of their own; set "+
				"ETCDPOD_CACHE to another place", dir, hidden)
		}
	}
	root, err := binaries.ModuleRoot()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Name: o.Name, Dir: dir, Root: root, EtcdVersion: o.EtcdVersion,
		EtcdArgs: o.EtcdArgs, Bare: len(o.Machines) > 0, Balanced: o.Balanced, Machine: o.Machine}
	c.Bridge = fmt.Sprintf("ep%08x", crc32.ChecksumIEEE([]byte(dir)))
	names := o.Machines
	for i := 0; !c.Bare && i < o.Nodes; i++ {
		names = append(names, fmt.Sprintf("cp%d", i+1))
	}
	for _, name := range names {
		c.Nodes = append(c.Nodes, c.node(name))
	}
	return c, nil
}

func (c *Cluster) node(name string) *Node {
	n := &Node{Name: name, Dir: filepath.Join(c.Dir, name), Index: c.Machines, cluster: c}
	c.Machines++
	return n
}

// clear takes down the remains of an earlier cluster in the same directory; a
// running one is an error.
func (c *Cluster) clear(ctx context.Context) error {
	old, err := Attach(c.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	for _, n := range old.Nodes {
		if n.Running() {
			return fmt.Errorf("it is running in %s", c.Dir)
		}
	}
	return old.Down(ctx)
}

func (c *Cluster) start(ctx context.Context) error {
	if err := installTools(ctx, append(c.tools(), tools...)); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	if err := c.save(); err != nil { // from here on Down finds everything
		return err
	}
	if err := c.makeBridge(ctx); err != nil {
		return err
	}
	if err := c.makePath(ctx); err != nil {
		return err
	}
	images, err := c.archives(ctx)
	if err != nil {
		return err
	}
	defer removeAll(images) // large, and imported
	if err := makeKey(ctx, c.key()); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if err := n.create(ctx); err != nil {
			return err
		}
	}
	if err := c.acquaint(); err != nil {
		return err
	}
	if c.Bare {
		return c.installAll(ctx, images)
	}
	for _, n := range c.Nodes {
		if err := n.install(ctx, images); err != nil {
			return err
		}
		if err := n.joinCluster(ctx); err != nil {
			return err
		}
	}
	return c.AwaitWorking(ctx)
}

// installAll switches all machines on, and loads all images on all of them at once.
func (c *Cluster) installAll(ctx context.Context, images []string) error {
	for _, n := range c.Nodes {
		if err := n.install(ctx, nil); err != nil {
			return err
		}
	}
	errs := make([]error, len(c.Nodes))
	var running sync.WaitGroup
	for i, n := range c.Nodes {
		running.Go(func() { errs[i] = n.importImages(ctx, images) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// Attach returns the cluster in the directory dir, running or not. The error wraps
// fs.ErrNotExist if there is none.
func Attach(dir string) (*Cluster, error) {
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, fmt.Errorf("cannot find a cluster: %w", err)
	}
	c := new(Cluster)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("cannot read %s of %s: %w", stateFile, dir, err)
	}
	for _, n := range c.Nodes {
		n.cluster = c
	}
	return c, nil
}

const stateFile = "cluster.json"

// save writes the cluster's state, so that Attach finds it and Down knows what belongs to it.
func (c *Cluster) save() error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	temp := filepath.Join(c.Dir, "."+stateFile)
	if err := os.WriteFile(temp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(c.Dir, stateFile))
}

// Down ends every process of the cluster and removes everything that it has on the host, including
// its directory. It may be called again.
func (c *Cluster) Down(ctx context.Context) error {
	if err := c.stop(ctx); err != nil {
		return fmt.Errorf("cannot take cluster %s down: %w", c.Name, err)
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		return fmt.Errorf("cannot take cluster %s down: %w", c.Name, err)
	}
	return nil
}

// stop ends the processes and removes what the host keeps, except the directory.
func (c *Cluster) stop(ctx context.Context) error {
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.KillEverything(ctx))
	}
	return errors.Join(append(errs, c.removeBridge(ctx))...)
}

// Clear takes down the cluster in the directory dir, if there is one: a test calls it first,
// because its predecessor may have been killed.
func Clear(ctx context.Context, dir string) error {
	c, err := Attach(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Down(ctx)
}

// Node returns a node; the first is 0.
func (c *Cluster) Node(i int) *Node { return c.Nodes[i] }
