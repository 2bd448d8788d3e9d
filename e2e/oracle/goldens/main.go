// Command goldens makes anew what the versions of kubeadm make of the oracle's cases, or of those
// named; -v shows what kubeadm says of those that it refuses. It needs root.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/oracle"
)

func main() {
	verbose := flag.Bool("v", false, "show what kubeadm says where it refuses")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := goldens(ctx, flag.Args(), *verbose); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func goldens(ctx context.Context, names []string, verbose bool) error {
	root, err := binaries.ModuleRoot()
	if err != nil {
		return err
	}
	kubeadms := map[string]oracle.Kubeadm{}
	for _, version := range binaries.KubeadmVersions() {
		if kubeadms[version], err = oracle.Build(ctx, version); err != nil {
			return err
		}
	}
	cases, err := oracle.Cases(binaries.KubeadmVersions())
	if err != nil {
		return err
	}
	for _, c := range cases {
		if len(names) > 0 && !slices.Contains(names, c.Name) {
			continue
		}
		for _, version := range c.Versions {
			o, said, err := kubeadms[version].Run(ctx, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			if o.Refused && verbose {
				fmt.Printf("%s: kubeadm %s refuses:\n%s\n", c.Name, version, strings.TrimSpace(said))
			}
			c.Golden[version] = o
		}
		if err := os.WriteFile(filepath.Join(root, c.File()), c.Format(), 0o644); err != nil {
			return err
		}
		fmt.Println(c.File())
	}
	return nil
}
