package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// keepVariable, when it is not empty, leaves the cluster of a package's tests running after them, for the next time.
const keepVariable = "ETCDPOD_KEEP"

// Borrow returns the cluster of that name that was kept, when all its nodes run, or a new one, for the tests of a package. The etcdpod of
// this source is first on its nodes' PATH.
func Borrow(ctx context.Context, o Options) (*Cluster, error) {
	c, err := kept(o.Name)
	if err != nil {
		start := time.Now()
		if c, err = Up(ctx, o); err != nil {
			return nil, err
		}
		say("%d control-plane nodes came up in %s", len(c.Nodes), time.Since(start).Round(time.Second))
	}
	if err := c.InstallEtcdpod(ctx); err != nil {
		return nil, errors.Join(err, GiveBack(ctx, o.Name))
	}
	return c, nil
}

func kept(name string) (*Cluster, error) {
	dir, err := Dir(name)
	if err != nil {
		return nil, err
	}
	c, err := Attach(dir)
	if err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		if !n.Running() {
			return nil, fmt.Errorf("%s does not run", n.Name)
		}
	}
	return c, nil
}

// GiveBack takes down the cluster that Borrow returned, as the tests left it, unless ETCDPOD_KEEP is set.
func GiveBack(ctx context.Context, name string) error {
	if os.Getenv(keepVariable) != "" {
		return nil
	}
	dir, err := Dir(name)
	if err != nil {
		return err
	}
	return Clear(ctx, dir)
}

// InstallEtcdpod builds etcdpod into the directory that is first on the nodes' PATH.
func (c *Cluster) InstallEtcdpod(ctx context.Context) error {
	root, err := binaries.ModuleRoot()
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(c.bin(), "etcdpod"), "./cmd/etcdpod")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build etcdpod: %w\n%s", err, out)
	}
	return nil
}
