// Command standin is every program of the sandbox's node: container runtime, kubelet,
// kube-apiserver, kube-controller-manager and kube-scheduler, and the commands that start and end
// them. The packages in ../internal say what each one stands in for, and what it does not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/apiserver"
	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/controller"
	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/cri"
	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/kubelet"
	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/proc"
)

const usage = `usage: standin runtime --root ROOT
       standin kubelet --root ROOT [--node NAME] [--backoff 10s] [--max-backoff 5m]
       standin kubelet-start, with the flags of kubelet: start it and let it run
       standin kubelet-stop --root ROOT
       standin kubelet-status --root ROOT: exit 0 if it runs, else 3
       standin reaper --root ROOT [--keep]: wait for the end of standard input, then take the sandbox down
       standin down ROOT: end every process of the sandbox and remove it
As kube-apiserver, kube-controller-manager or kube-scheduler, by its own name or as first argument, it takes their flags.`

// errNotRunning makes kubelet-status exit as systemctl is-active does.
var errNotRunning = errors.New("inactive")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	words := os.Args
	if name := filepath.Base(words[0]); len(name) < 5 || name[:5] != "kube-" {
		words = words[1:]
	}
	if len(words) == 0 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	err := run(ctx, filepath.Base(words[0]), words[1:])
	switch {
	case errors.Is(err, errNotRunning):
		fmt.Println(err)
		os.Exit(3)
	case err != nil:
		fmt.Fprintf(os.Stderr, "standin %s: %v\n", words[0], err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command string, args []string) error {
	logger := log.New(os.Stderr, "", log.LstdFlags|log.Lmicroseconds)
	switch command {
	case "kube-apiserver":
		return apiserver.Run(ctx, args, logger)
	case "kube-controller-manager", "kube-scheduler":
		return controller.Run(ctx, command, args, logger)
	case "down":
		if len(args) != 1 {
			return errors.New("the root is needed")
		}
		return down(args[0])
	}
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	root := flags.String("root", "", "the sandbox's root")
	node := flags.String("node", "cp1", "the node's name")
	backoff := flags.Duration("backoff", 10*time.Second, "the first crash-loop delay")
	maxBackoff := flags.Duration("max-backoff", 5*time.Minute, "the longest crash-loop delay")
	keep := flags.Bool("keep", false, "leave the files")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *root == "" {
		return errors.New("--root is needed")
	}
	pidFile := filepath.Join(*root, "run/kubelet.pid")
	switch command {
	case "runtime":
		return cri.Serve(ctx, *root, logger)
	case "kubelet":
		return proc.AsDaemon(pidFile, func() error {
			return kubelet.Run(ctx, kubelet.Options{Root: *root,
				Node: *node, Backoff: *backoff, MaxBackoff: *maxBackoff, Log: logger})
		})
	case "kubelet-start":
		return proc.StartDaemon(ctx, pidFile, *root, filepath.Join(*root, "var/log/kubelet.log"),
			append([]string{"kubelet"}, args...))
	case "kubelet-stop":
		return proc.StopDaemon(pidFile)
	case "kubelet-status":
		if _, running := proc.Daemon(pidFile); !running {
			return errNotRunning
		}
		fmt.Println("active")
		return nil
	case "reaper":
		signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
		// Someone else took it down.
		if _, err := os.Stat(*root); *keep || errors.Is(err, os.ErrNotExist) {
			return proc.KillAll(*root)
		}
		return down(*root)
	}
	return fmt.Errorf("unknown command\n%s", usage)
}

// down ends the sandbox. It removes only a directory that a sandbox marked as its own.
func down(root string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return err // processes carry the resolved name
	}
	if _, err := os.Stat(filepath.Join(root, cri.Images)); err != nil {
		return fmt.Errorf("%s is not a sandbox: %w", root, err)
	}
	if err := proc.KillAll(root); err != nil {
		return err
	}
	return os.RemoveAll(root)
}
