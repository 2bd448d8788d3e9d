// Command etcdpod looks after the etcd under a kubeadm control plane. This package is its command
// line: flags, questions, and how progress, results and errors are shown.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
)

func main() {
	// A lost terminal or a closed pipe does not cancel the run: it goes on to its end, and `etcdpod
	// runs` shows the result.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { leaveOnNextSignal(os.Stderr) })
	code := run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	stop()
	os.Exit(code)
}

// leaveOnNextSignal gives Ctrl-C its second meaning: not to wait for what the first one lets end,
// or go back. A run is left open by that, and says so.
func leaveOnNextSignal(stderr io.Writer) {
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	slow := time.NewTimer(waitsLong)
	for {
		select {
		case <-slow.C:
			fmt.Fprintln(stderr, "etcdpod: interrupted; what was begun is ended or taken back first. Ctrl-C again "+
				"does not wait for that, and leaves it as it is")
		case <-again:
			fmt.Fprintln(stderr, "etcdpod: interrupted twice: what was under way is left as it is\n"+
				"hint: `etcdpod runs` says what is open; type `etcdpod resume` or `etcdpod rollback` to end it")
			os.Exit(exitOpenRun)
		}
	}
}

// waitsLong is when a person begins to wonder what an interrupted command is still doing.
const waitsLong = 3 * time.Second

// run is one call of the program; it returns the exit code. args starts with the program's name.
func run(
	ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string,
) (code int) {
	s := &session{stdin: stdin, stdout: stdout, stderr: stderr, env: env, args: args[1:], uid: os.Geteuid()}
	defer func() {
		if p := recover(); p != nil {
			code = s.report(ctx, s.broken(engine.Bug(p)))
		}
	}()
	return s.report(ctx, s.run(ctx))
}

// broken adds to a fault of the program's own what it has left behind.
func (s *session) broken(bug error) error {
	if s.node == nil {
		return bug
	}
	if open, err := engine.OpenRun(s.node.Look.FS); err == nil && open.ID != "" {
		return &engine.OpenRunError{Run: open, Cause: bug}
	}
	return engine.WithHint(fmt.Errorf("%w; no run is open", bug), engine.Hint(bug))
}
