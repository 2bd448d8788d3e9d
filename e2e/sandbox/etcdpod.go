package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/proc"
)

// Result is the outcome of a finished command.
type Result struct {
	Stdout, Stderr string
	Code           int // the exit code; -1 if a signal ended it
}

// EtcdpodCommand prepares a run of the built etcdpod on this node: with --root, the kubelet's
// commands, then args. Use it instead of [Sandbox.Etcdpod] to kill the run, for example. The
// process belongs to the sandbox: [Sandbox.Crash] kills it, too.
func (s *Sandbox) EtcdpodCommand(ctx context.Context, args ...string) (*exec.Cmd, error) {
	binary := s.options.Etcdpod
	if binary == "" {
		binary = os.Getenv("ETCDPOD")
	}
	if binary == "" {
		module, err := binaries.ModuleRoot()
		if err != nil {
			return nil, err
		}
		binary = filepath.Join(module, "bin", "etcdpod")
	}
	global := []string{"--root", s.Root, "--kubelet-stop-command",
		s.KubeletStopCommand(), "--kubelet-start-command", s.KubeletStartCommand(),
		"--kubelet-status-command", s.KubeletStatusCommand()}
	cmd := exec.CommandContext(ctx, binary, append(global, args...)...)
	cmd.Env = proc.Environ(os.Environ(), s.Root)
	return cmd, nil
}

// AwaitCommands returns when neither etcdpod nor one of the kubelet's commands still runs on the
// node. A killed etcdpod leaves behind the command that it had just started, which would
// interfere with the next step.
func (s *Sandbox) AwaitCommands(ctx context.Context) error {
	return until(ctx, "what was killed has left a command behind", func(context.Context) error {
		all, err := proc.Marked(s.Root)
		if err != nil {
			return err
		}
		for _, id := range all {
			for _, word := range id.Command() {
				switch word {
				case "kubelet-start", "kubelet-stop", "kubelet-status", "--kubelet-stop-command":
					return fmt.Errorf("process %d: %q", id.PID, id.Command())
				}
			}
		}
		return nil
	})
}

// Etcdpod runs etcdpod to its end. An exit code other than 0 is no error; a binary
// that cannot start is.
func (s *Sandbox) Etcdpod(ctx context.Context, args ...string) (Result, error) {
	cmd, err := s.EtcdpodCommand(ctx, args...)
	if err != nil {
		return Result{}, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Result{}, fmt.Errorf("cannot run etcdpod: %w", err)
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}, ctx.Err()
}
