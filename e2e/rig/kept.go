package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// keepVariable, if not empty, keeps the cluster of a package's tests running for the next time.
const keepVariable = "ETCDPOD_KEEP"

// Borrow returns the kept cluster of that name, or a new one, for the tests of a package. It boots
// nodes that were left switched off. The etcdpod of this source comes first on the nodes' PATH.
func Borrow(ctx context.Context, o Options) (*Cluster, error) {
	c, err := kept(ctx, o.Name)
	if err != nil {
		start := time.Now()
		if c, err = Up(ctx, o); err != nil {
			return nil, err
		}
		say("%d control-plane nodes came up in %s", len(c.Nodes), time.Since(start).Round(time.Second))
	}
	if err := c.InstallEtcdpod(ctx, "etcdpod", ""); err != nil {
		return nil, errors.Join(err, GiveBack(ctx, o.Name))
	}
	return c, nil
}

func kept(ctx context.Context, name string) (*Cluster, error) {
	dir, err := Dir(name)
	if err != nil {
		return nil, err
	}
	c, err := Attach(dir)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(c.Nodes, (*Node).Running) {
		return nil, fmt.Errorf("cluster %s does not run", name)
	}
	for _, n := range c.Nodes {
		if !n.Running() {
			if err := n.Boot(ctx); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// GiveBack takes down the cluster that Borrow returned, in whatever state the tests left it, unless
// ETCDPOD_KEEP is set.
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

// InstallEtcdpod builds etcdpod into the first directory on the nodes' PATH, under a name and with
// the version that it shall report: its module's if empty.
func (c *Cluster) InstallEtcdpod(ctx context.Context, name, version string) error {
	root, err := binaries.ModuleRoot()
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath",
		"-ldflags", "-X main.version="+version, "-o", filepath.Join(c.bin(), name), "./cmd/etcdpod")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build etcdpod: %w\n%s", err, out)
	}
	return nil
}
