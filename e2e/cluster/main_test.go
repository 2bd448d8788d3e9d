//go:build e2e

// Package cluster holds the built etcdpod to its promises on a real kubeadm control plane, which the rig runs on this machine: root, Linux.
//
// All tests use one cluster, one after the other; each leaves it working. With ETCDPOD_KEEP=yes it is there after the tests, and used again
// by the next ones, but for the upgrade, which a cluster can have once.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/rig"
)

// clusterName names the cluster of this package's tests.
const clusterName = "e2e"

func TestMain(m *testing.M) {
	code, err := withCluster(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// withCluster runs the tests between the cluster's start and its end.
func withCluster(tests func() int) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	c, err := running(ctx)
	if err != nil {
		return 1, err
	}
	if err := install(ctx, c); err != nil {
		return 1, errors.Join(err, end())
	}
	code = tests()
	return code, end()
}

// running returns the cluster that was kept, or a new one.
func running(ctx context.Context) (*rig.Cluster, error) {
	if c, err := attach(); err == nil && c.Node(0).Running() {
		return c, nil
	}
	start := time.Now()
	c, err := rig.Up(ctx, rig.Options{Name: clusterName})
	if err == nil {
		fmt.Fprintf(os.Stderr, "the control plane came up in %s\n", time.Since(start).Round(time.Second))
	}
	return c, err
}

func attach() (*rig.Cluster, error) {
	dir, err := rig.Dir(clusterName)
	if err != nil {
		return nil, err
	}
	return rig.Attach(dir)
}

// install builds etcdpod into the directory that is first on the nodes' PATH.
func install(ctx context.Context, c *rig.Cluster) error {
	root, err := binaries.ModuleRoot()
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(c.Dir, "bin", "etcdpod"), "./cmd/etcdpod")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build etcdpod: %w\n%s", err, out)
	}
	return nil
}

// end looks for the cluster anew: tests have booted its node since, and it has another first process.
func end() error {
	if os.Getenv("ETCDPOD_KEEP") != "" {
		return nil
	}
	c, err := attach()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return c.Down(ctx)
}
