package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/e2e/leash"
)

// etcdpod prepares a run of the real binary. Where it finds the sandbox stands in the environment,
// so that its command line is the one that is shown.
func (s *story) etcdpod(args ...string) (*exec.Cmd, error) {
	cmd, err := s.EtcdpodCommand(s.ctx)
	if err != nil {
		return nil, err
	}
	cmd.Args = append([]string{"etcdpod"}, args...)
	cmd.Env = append(cmd.Env, "ETCDPOD_ROOT="+s.Root, "ETCDPOD_KUBELET_STOP_COMMAND="+s.KubeletStopCommand(),
		"ETCDPOD_KUBELET_START_COMMAND="+s.KubeletStartCommand(),
		"ETCDPOD_KUBELET_STATUS_COMMAND="+s.KubeletStatusCommand())
	s.command(s.short(strings.Join(cmd.Args, " ")))
	return cmd, nil
}

// short leaves the sandbox's root out of paths.
func (s *story) short(text string) string { return strings.ReplaceAll(text, s.Root, "") }

// run runs etcdpod to its end, shows what it says in the given way, and holds it to an exit code
// and to what it must say.
func (s *story) run(code int, args []string, show func(string), says ...string) error {
	cmd, err := s.etcdpod(args...)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return err
	}
	text := s.short(said.String())
	if got := cmd.ProcessState.ExitCode(); got != code {
		return fmt.Errorf("etcdpod %s ended with %d, and not %d:\n%s", args[0], got, code, text)
	}
	show(text)
	if code != 0 {
		s.line(fmt.Sprintf("(exit code %d)", code))
	}
	for _, words := range says {
		if !strings.Contains(text, words) {
			return fmt.Errorf("etcdpod %s does not say %q:\n%s", args[0], words, text)
		}
	}
	return nil
}

// runAndKill shows what etcdpod says until it reaches a phase, and then ends it by SIGKILL: on a
// leash, it waits there, before the first operation of the phase.
func (s *story) runAndKill(phase string, args []string, keep func(string) bool) error {
	cmd, err := s.etcdpod(args...)
	if err != nil {
		return err
	}
	killed := false
	err = leash.Run(cmd, &cmd.Stderr, func(line string) {
		if killed {
			return
		}
		line = s.short(line)
		if keep(line) {
			s.line(line)
		}
		if strings.HasSuffix(line, " "+phase) {
			killed = cmd.Process.Kill() == nil
		}
	})
	if !killed || err == nil || !strings.Contains(err.Error(), "killed") {
		return fmt.Errorf("the restore was not killed at %s: %v", phase, err)
	}
	s.bad("kill -9 %d", cmd.Process.Pid)
	return s.AwaitCommands(s.ctx)
}

// sum is the SHA-256 of all keys and values.
func sum(keys map[string]string) string {
	hash := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		fmt.Fprintf(hash, "%d %s %d %s\n", len(key), key, len(keys[key]), keys[key])
	}
	return fmt.Sprintf("%x", hash.Sum(nil))
}

// containers says what runs, as the container runtime tells it.
func (s *story) containers() (string, error) {
	all, err := s.Containers(s.ctx)
	if err != nil {
		return "", err
	}
	newest := map[string]string{}
	for _, c := range all {
		if _, seen := newest[c.Name]; !seen {
			newest[c.Name] = c.State
		}
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(newest)) {
		words = append(words, name+" "+newest[name])
	}
	return strings.Join(words, ", "), nil
}

// patience is for a machine that does much else, and only ends what hangs.
const patience = 5 * time.Minute

// eventually waits until something holds.
func (s *story) eventually(what string, holds func() (bool, error)) error {
	for end := time.Now().Add(patience); ; {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %v: %s", patience, what)
		}
	}
}
