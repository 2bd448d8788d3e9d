// Command build builds the programs that the tests run etcdpod against, and prints where they are.
// All are not the older kubeadms, of which only `make goldens` has need, nor the newer containerd,
// of which only `make e2e-matrix` has.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	what := ""
	if len(os.Args) == 2 {
		what = os.Args[1]
	}
	if !slices.Contains([]string{"etcd", "kubernetes", "stores", "all", "kubeadms", "containerd"}, what) {
		fmt.Fprintln(os.Stderr, "usage: build etcd|kubernetes|stores|all|kubeadms|containerd")
		os.Exit(2)
	}
	if err := build(ctx, what); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func build(ctx context.Context, what string) error {
	switch what {
	case "kubeadms":
		return each(ctx, binaries.KubeadmVersions(), binaries.Kubeadm)
	case "containerd":
		return each(ctx, binaries.ContainerdPrograms(), binaries.Containerd)
	case "stores":
		return stores(ctx)
	}
	if what != "kubernetes" {
		for _, version := range binaries.EtcdVersions() {
			for _, program := range []func(context.Context, string) (string, error){
				binaries.Etcd, binaries.Etcdctl, binaries.Etcdutl,
			} {
				if err := show(program(ctx, version)); err != nil {
					return err
				}
			}
		}
	}
	if what == "etcd" {
		return nil
	}
	if what == "all" {
		if err := stores(ctx); err != nil {
			return err
		}
	}
	return each(ctx, binaries.KubernetesPrograms(), binaries.Kubernetes)
}

// stores are the servers that take backups. Without node, its tests are skipped and say so.
func stores(ctx context.Context) error {
	if err := show(binaries.S3Server(ctx)); err != nil {
		return err
	}
	azure, err := binaries.AzureServer(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return nil
	}
	return show(azure[1], nil)
}

func each(ctx context.Context, names []string, built func(context.Context, string) (string, error)) error {
	for _, name := range names {
		if err := show(built(ctx, name)); err != nil {
			return err
		}
	}
	return nil
}

func show(path string, err error) error {
	if err == nil {
		fmt.Println(path)
	}
	return err
}
