// Command demo shows what etcdpod is for, on a control plane of its own below a temporary
// directory: it is backed up, destroyed, restored by a restore that is killed in the middle
// and resumed, and compared key by key. All that it shows happens; it ends with 1 if
// anything is not as told.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/term"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

func main() {
	pause := flag.Bool("pause", false, "pause after each paragraph, for reading; on a terminal only")
	etcd := flag.String("etcd", "", "an etcd server; without it, one is built as for the tests")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	terminal := term.IsTerminal(int(os.Stdout.Fd()))
	t := &teller{
		to: os.Stdout, width: 100, color: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
		pause: *pause && terminal,
	}
	if width, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && width > 40 {
		t.width = min(width, 120)
	}
	err := demo(ctx, t, *etcd)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "\ndemo: interrupted; everything is cleaned up")
		os.Exit(130)
	case err != nil:
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

// demo makes the control plane, tells the story on it, and takes it down, whatever happens.
func demo(ctx context.Context, t *teller, etcd string) (err error) {
	binary, err := etcdpod()
	if err != nil {
		return err
	}
	if etcd == "" {
		if etcd, err = binaries.Etcd(ctx, binaries.Etcd37); err != nil {
			return err
		}
	}
	s, err := sandbox.New(sandbox.Options{EtcdBinary: etcd, Etcdpod: binary})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Destroy()) }()
	return (&story{Sandbox: s, teller: t, ctx: ctx}).tell()
}

// etcdpod is the binary that `make build` makes; the variable ETCDPOD names another.
func etcdpod() (string, error) {
	if path := os.Getenv("ETCDPOD"); path != "" {
		return path, nil
	}
	module, err := binaries.ModuleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(module, "bin", "etcdpod")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("cannot find etcdpod: %w; `make demo` builds it", err)
	}
	return path, nil
}
