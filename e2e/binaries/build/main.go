// Command build builds the programs that the tests run etcdpod against, and prints where they are.
// The older kubeadms, of which only `make goldens` has need, are in none but kubeadms.
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
	if !slices.Contains([]string{"etcd", "kubernetes", "all", "kubeadms"}, what) {
		fmt.Fprintln(os.Stderr, "usage: build etcd|kubernetes|all|kubeadms")
		os.Exit(2)
	}
	if err := build(ctx, what); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func build(ctx context.Context, what string) error {
	if what == "kubeadms" {
		for _, version := range binaries.KubeadmVersions() {
			if err := show(binaries.Kubeadm(ctx, version)); err != nil {
				return err
			}
		}
		return nil
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
	if what != "etcd" {
		for _, program := range binaries.KubernetesPrograms() {
			if err := show(binaries.Kubernetes(ctx, program)); err != nil {
				return err
			}
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
