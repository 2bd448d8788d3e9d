package node

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync/atomic"
	"time"
)

// Commands replace systemctl on a node without systemd. Each is one line, split into words as a
// shell does; no shell runs it.
type Commands struct {
	Stop, Start string // empty: systemctl stop kubelet, systemctl start kubelet
	// Status exits with 0 when the kubelet runs and with 1, 2 or 3 when it does not, as in the LSB
	// (pgrep does, too). Empty: systemctl is-active kubelet.
	Status string
	// Wait bounds each of Stop and Start; 30 s when zero.
	Wait time.Duration
}

const (
	defaultWait = 30 * time.Second
	pollEvery   = 100 * time.Millisecond
	statusWait  = 10 * time.Second
)

// Service returns the kubelet as a service that programs stop, start and query.
func Service(run Runner, cmds Commands) Kubelet {
	if cmds.Wait <= 0 {
		cmds.Wait = defaultWait
	}
	return &service{run: run, cmds: cmds}
}

type service struct {
	run  Runner
	cmds Commands
	// stopping: a stop was requested, and its end was not seen. A running kubelet may be
	// gone the next moment.
	stopping atomic.Bool
}

func (s *service) Running(ctx context.Context) (bool, error) {
	running, err := s.running(ctx)
	if err != nil {
		return false, fmt.Errorf("cannot determine whether the kubelet runs: %w", err)
	}
	return running, nil
}

func (s *service) running(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	if s.cmds.Status == "" {
		return s.active(ctx)
	}
	err := s.command(ctx, s.cmds.Status, "")
	var failed *ExitError
	if errors.As(err, &failed) && failed.Code >= 1 && failed.Code <= 3 {
		return false, nil
	}
	return err == nil, err
}

// active asks systemd. A kubelet that waits for its automatic restart ("activating") or is just
// stopping ("deactivating") counts as running.
func (s *service) active(ctx context.Context) (bool, error) {
	err := s.command(ctx, "", "is-active")
	var failed *ExitError
	if err == nil || !errors.As(err, &failed) {
		return err == nil, err
	}
	switch {
	case failed.Code == 4:
		return false, hinted{errors.New("systemd knows no unit kubelet"), commandsHint}
	case failed.Code > 4 || failed.Code < 0:
		return false, err
	case failed.Last == "inactive" || failed.Last == "failed" || failed.Last == "unknown":
		return false, nil
	case failed.Code == 3:
		return true, nil
	}
	return false, err
}

func (s *service) Stop(ctx context.Context) error {
	if err := s.stop(ctx); err != nil {
		return fmt.Errorf("cannot stop the kubelet: %w", err)
	}
	return nil
}

func (s *service) stop(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, s.cmds.Wait)
	defer cancel()
	running, err := s.running(limited)
	if err == nil && running {
		s.stopping.Store(true)
		err = s.command(limited, s.cmds.Stop, "stop")
	}
	if err == nil && running {
		err = s.awaitStopped(limited)
	}
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		return fmt.Errorf("still running after %s", s.cmds.Wait)
	}
	return err
}

func (s *service) Start(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, s.cmds.Wait)
	defer cancel()
	err := s.start(limited)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		err = fmt.Errorf("its command is still running after %s", s.cmds.Wait)
	}
	if err != nil {
		return fmt.Errorf("cannot start the kubelet: %w", err)
	}
	return nil
}

func (s *service) awaitStopped(ctx context.Context) error {
	for {
		running, err := s.running(ctx)
		if err != nil {
			return err
		}
		if !running {
			s.stopping.Store(false)
			return nil
		}
		if err := WallClock().Sleep(ctx, pollEvery); err != nil {
			return err
		}
	}
}

// start starts a kubelet that may already run, or may be stopping. systemd accepts a start for
// either, and queues it behind the stop.
func (s *service) start(ctx context.Context) error {
	if s.cmds.Start == "" {
		return s.command(ctx, "", "start")
	}
	if s.stopping.Load() {
		limited, cancel := context.WithTimeout(ctx, s.cmds.Wait/2)
		defer cancel()
		_ = s.awaitStopped(limited) // one that does not stop in time keeps running
	}
	if running, err := s.running(ctx); err == nil && running {
		return nil
	}
	return s.command(ctx, s.cmds.Start, "start")
}

// command runs the operator's line or, where it is empty, systemctl's verb.
func (s *service) command(ctx context.Context, line, verb string) error {
	if line == "" {
		err := s.run(ctx, []string{"systemctl", verb, "kubelet"})
		if errors.Is(err, exec.ErrNotFound) {
			return hinted{errors.New("systemctl is not on the PATH"), commandsHint}
		}
		return err
	}
	argv, err := SplitWords(line)
	if err != nil {
		return fmt.Errorf("cannot read the command %q: %w", line, err)
	}
	if len(argv) == 0 {
		return fmt.Errorf("the command %q is empty", line)
	}
	return s.run(ctx, argv)
}

const commandsHint = "give this node's commands with --kubelet-stop-command, " +
	"--kubelet-start-command and --kubelet-status-command"

// hinted is an error with a hint at what to do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Hint() string  { return h.hint }
func (h hinted) Unwrap() error { return h.error }
