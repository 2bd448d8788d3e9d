// Command etcdpod looks after etcd on kubeadm control planes. This package is its command
// line: flags, questions, and how progress, results and errors are shown.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/etcdpod/etcdpod/phases/engine"
)

func main() {
	// A lost terminal or a closed pipe does not cancel the run: it goes on to its end, and `etcdpod
	// runs` shows the result.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(context.Background())
	interrupts := make(chan os.Signal, 3)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	s := newSession(os.Args, os.Stdin, os.Stdout, os.Stderr, os.Getenv)
	s.apart = []string{apartName}
	go s.heed(interrupts, cancel, os.Exit)
	os.Exit(s.serve(ctx))
}

// run is one call of the program; it returns the exit code. args starts with the program's name.
func run(
	ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string,
) int {
	return newSession(args, stdin, stdout, stderr, env).serve(ctx)
}

func newSession(args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string) *session {
	return &session{stdin: stdin, stdout: stdout, stderr: stderr, env: env, args: args[1:], uid: os.Geteuid()}
}

// serve does what was typed, and returns the exit code.
func (s *session) serve(ctx context.Context) (code int) {
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
