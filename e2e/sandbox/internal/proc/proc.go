// Package proc starts, recognizes and ends the processes of a sandbox. Every one of them has the
// sandbox's root in its environment, so that all can be found and ended, no matter how they were
// started and who their parent is by now.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// marker is the environment variable that holds the root. It must not begin with ETCD_ or ETCDPOD_,
// which etcd and etcdpod read.
const marker = "STANDIN_ROOT"

// Environ returns a copy of env marked for the sandbox at root.
func Environ(env []string, root string) []string {
	marked := make([]string, 0, len(env)+1)
	for _, entry := range env {
		if !strings.HasPrefix(entry, marker+"=") {
			marked = append(marked, entry)
		}
	}
	return append(marked, marker+"="+root)
}

// Start starts a marked process in its own session, appends its output to log, and reaps it when it
// ends. The process survives the caller.
func Start(cmd *exec.Cmd, root, log string) error {
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer out.Close()
	env := cmd.Env
	if env == nil {
		env = os.Environ()
	}
	cmd.Env = Environ(env, root)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}

// Identity identifies one process as long as the machine runs: pids alone are reused.
type Identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot, as /proc/PID/stat tells
}

// Identify returns the identity of a running process, and false if there is none, or only a zombie.
func Identify(pid int) (Identity, bool) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return Identity{}, false
	}
	// The command's name may hold spaces and parentheses: count fields from its last parenthesis.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return Identity{}, false
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return Identity{PID: pid, Start: start}, err == nil
}

// Alive says whether the process still runs.
func (id Identity) Alive() bool {
	now, ok := Identify(id.PID)
	return ok && id.PID > 0 && now == id
}

// Command returns the arguments of the process; none when it has ended.
func (id Identity) Command() []string {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(id.PID), "cmdline"))
	if err != nil || len(line) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
}

// Marked lists the processes of the sandbox at root, without the caller.
func Marked(root string) ([]Identity, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	mark := []byte("\x00" + marker + "=" + root + "\x00")
	var found []Identity
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err != nil || !bytes.Contains(append([]byte{0}, env...), mark) {
			continue
		}
		if id, ok := Identify(pid); ok {
			found = append(found, id)
		}
	}
	return found, nil
}

// killLimit is how long a killed process may take to disappear: long, on a busy machine.
const killLimit = 5 * time.Minute

// KillAll kills every process of the sandbox at root with SIGKILL, like a power cut, and
// returns when none is left.
func KillAll(root string) error {
	deadline := time.Now().Add(killLimit)
	for {
		left, err := Marked(root)
		if err != nil {
			return err
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot end %d processes of the sandbox %s: still there after SIGKILL", len(left), root)
		}
		for _, id := range left {
			if err := syscall.Kill(id.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("cannot kill process %d: %w", id.PID, err)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// End sends SIGTERM, then after grace SIGKILL to the process's group, and returns when
// the process has ended.
func End(id Identity, grace time.Duration) error {
	if !id.Alive() {
		return nil
	}
	if grace > 0 {
		if err := syscall.Kill(id.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		if waitEnd(id, grace) {
			return nil
		}
	}
	if err := syscall.Kill(-id.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	if !waitEnd(id, killLimit) {
		return fmt.Errorf("process %d does not end", id.PID)
	}
	return nil
}

func waitEnd(id Identity, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		if !id.Alive() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
