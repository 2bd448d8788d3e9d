package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	containerdSocket = "/run/containerd/containerd.sock"
	stopTimeout      = 90 * time.Second // systemd's DefaultTimeoutStopSec
)

// unit is a service and its state: only whether it is wanted, and its process.
type unit struct {
	command func() ([]string, error)
	// A unit that exits is restarted, as with Restart=always.
	restartAfter time.Duration

	wanted bool
	pid    int           // 0 while it does not run
	ended  chan struct{} // closed when pid has ended
	// Counts starts and stops, so that a pending restart notices that it is outdated.
	starts  int
	logFile string
}

// supervisor runs the units and reaps every process of the node.
type supervisor struct {
	mu    sync.Mutex
	units map[string]*unit
}

func newSupervisor() *supervisor {
	s := &supervisor{units: map[string]*unit{
		"containerd": {
			command: func() ([]string, error) {
				return []string{"containerd", "--config", "/var/lib/containerd.toml"}, nil
			},
			restartAfter: 5 * time.Second,
			logFile:      "/var/log/containerd.log",
		},
		"ssh":     {command: sshdCommand, restartAfter: 5 * time.Second, logFile: "/var/log/sshd.log"},
		"kubelet": {command: kubeletCommand, restartAfter: 10 * time.Second, logFile: "/var/log/kubelet.log"},
	}}
	children := make(chan os.Signal, 16)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			s.reap()
		}
	}()
	return s
}

// sshdCommand has an absolute path, without which sshd cannot execute itself again.
func sshdCommand() ([]string, error) {
	path, err := exec.LookPath("sshd")
	if err != nil {
		return nil, err
	}
	// The directory of its unprivileged process.
	return []string{path, "-D", "-e", "-f", "/etc/ssh/sshd_config"}, os.MkdirAll("/run/sshd", 0o755)
}

// dropIn is where the Kubernetes documentation makes the kubelet of an etcd machine
// run only static pods.
const dropIn = "/etc/systemd/system/kubelet.service.d/20-etcd-service-manager.conf"

// kubeletCommand is from kubeadm's systemd drop-in for the kubelet, unless there is another one.
func kubeletCommand() ([]string, error) {
	if text, err := os.ReadFile(dropIn); err == nil {
		return execStart(string(text))
	}
	args := []string{"kubelet", "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
		"--kubeconfig=/etc/kubernetes/kubelet.conf", "--config=/var/lib/kubelet/config.yaml"}
	env, err := os.ReadFile("/var/lib/kubelet/kubeadm-flags.env")
	if err != nil {
		return nil, err
	}
	_, flags, _ := strings.Cut(strings.TrimSpace(string(env)), "=")
	return append(args, strings.Fields(strings.Trim(flags, `"`))...), nil
}

// execStart returns the last command in a unit's file. Programs are looked up on the node's PATH.
func execStart(unit string) (command []string, err error) {
	for line := range strings.Lines(unit) {
		if words, ok := strings.CutPrefix(line, "ExecStart="); ok {
			command = strings.Fields(words)
		}
	}
	if len(command) == 0 {
		return nil, fmt.Errorf("%s starts nothing", dropIn)
	}
	command[0] = filepath.Base(command[0])
	return command, nil
}

func (s *supervisor) start(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.units[name]
	if !ok {
		return fmt.Errorf("Unit %s.service not found.", name)
	}
	u.wanted = true
	u.starts++
	if u.pid != 0 {
		return nil
	}
	return s.fork(u)
}

func (s *supervisor) fork(u *unit) error {
	args, err := u.command()
	if err != nil {
		return err
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(u.logFile), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(u.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	pid, err := syscall.ForkExec(path, args, &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []uintptr{0, log.Fd(), log.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", path, err)
	}
	u.pid, u.ended = pid, make(chan struct{})
	return nil
}

// stop ends the unit's own process and, as with KillMode=process, no container.
func (s *supervisor) stop(name string) error {
	s.mu.Lock()
	u, ok := s.units[name]
	if !ok {
		s.mu.Unlock()
		return fmt.Errorf("Failed to stop %s.service: Unit %s.service not loaded.", name, name)
	}
	u.wanted = false
	u.starts++
	pid, ended := u.pid, u.ended
	s.mu.Unlock()
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && err != syscall.ESRCH {
		return err
	}
	select {
	case <-ended:
	case <-time.After(stopTimeout):
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return err
		}
		<-ended
	}
	return nil
}

// state returns systemd's word for the unit.
func (s *supervisor) state(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch u := s.units[name]; {
	case u == nil:
		return "unknown"
	case u.pid != 0:
		return "active"
	case u.wanted:
		return "activating"
	default:
		return "inactive"
	}
}

func (s *supervisor) reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		s.mu.Lock()
		for _, u := range s.units {
			if u.pid == pid {
				u.pid = 0
				close(u.ended)
				if u.wanted {
					s.restartLater(u, u.starts)
				}
			}
		}
		s.mu.Unlock()
	}
}

func (s *supervisor) restartLater(u *unit, starts int) {
	time.AfterFunc(u.restartAfter, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if u.starts != starts || u.pid != 0 {
			return
		}
		if err := s.fork(u); err != nil {
			fmt.Fprintln(os.Stderr, err)
			s.restartLater(u, starts)
		}
	})
}

func awaitSocket(path string) error {
	for range 300 {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("cannot boot: %s is not there after 30 s", path)
}

// awaitSSHD returns when sshd listens on the node's address, which has a prefix length.
func awaitSSHD(address string) error {
	host, _, _ := strings.Cut(address, "/")
	var last error
	for range 300 {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, "22"), time.Second)
		if err == nil {
			return conn.Close()
		}
		last = err
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("cannot boot: sshd does not listen after 30 s (see /var/log/sshd.log): %w", last)
}
