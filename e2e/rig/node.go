package rig

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig/internal/boot"
)

// Node is one control-plane node.
type Node struct {
	Name    string
	Address string // on the cluster's bridge; the host reaches it, too
	Dir     string // the node's directory on the host
	// Of all nodes that the cluster ever had, from 0: it determines the node's address and cable.
	Index int

	// The node's first process, by the host's PID, and when it started (clock ticks since the
	// host's boot): PIDs are reused.
	PID   int
	Start string

	cluster *Cluster
}

// Path returns the path on the host of what survives a reboot of the node: /etc/kubernetes,
// /var/lib and /var/log are the node's own. Any other path is the host's, and returned unchanged.
// What is on a disk of the node's is reached only while it runs.
func (n *Node) Path(path string) string {
	for own, dir := range map[string]string{
		"/etc/kubernetes": boot.EtcKubernetes,
		"/var/lib":        boot.VarLib,
		"/var/log":        boot.VarLog,
	} {
		if path != own && !strings.HasPrefix(path, own+"/") {
			continue
		}
		if own == "/var/lib" && n.disk() != "" && n.Running() {
			return fmt.Sprintf("/proc/%d/root%s", n.PID, path)
		}
		return filepath.Join(n.Dir, dir, strings.TrimPrefix(path, own))
	}
	return path
}

// create makes the node's own files and directories.
func (n *Node) create(ctx context.Context) error {
	for _, dir := range []string{boot.EtcKubernetes, boot.VarLog,
		boot.Etc + "/cni/net.d", boot.Etc + "/kubernetes", boot.EtcWork,
		boot.VarLib + "/kubelet", boot.VarLib + "/containerd"} {
		if err := os.MkdirAll(filepath.Join(n.Dir, dir), 0o755); err != nil {
			return err
		}
	}
	config := []byte(n.cluster.containerdConfig())
	if err := os.WriteFile(n.Path("/var/lib/containerd.toml"), config, 0o644); err != nil {
		return err
	}
	if err := n.sshFiles(ctx); err != nil {
		return err
	}
	return n.format(ctx)
}

// Boot switches the node on: containerd, sshd and the kubelet start, with any manifests that the
// kubelet finds. It returns when all three run.
func (n *Node) Boot(ctx context.Context) error {
	return n.boot(ctx, "containerd", "ssh", "kubelet")
}

func (n *Node) boot(ctx context.Context, services ...string) error {
	if err := n.bootInit(ctx, services); err != nil {
		return fmt.Errorf("cannot boot %s (see %s): %w", n.Name, filepath.Join(n.Dir, "init.log"), err)
	}
	return nil
}

func (n *Node) bootInit(ctx context.Context, services []string) error {
	if n.Running() {
		return errors.New("it is running")
	}
	log, err := os.OpenFile(filepath.Join(n.Dir, "init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	// Without ctx: the node outlives the call.
	cmd := exec.Command(filepath.Join(n.cluster.bin(), "nodeinit"))
	cmd.Dir, cmd.Stderr = "/", log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS |
			syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setsid: true,
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { go cmd.Wait() }() // reaps it when it is killed
	n.PID = cmd.Process.Pid
	n.Start, _ = startTime(n.PID)
	if err := n.cluster.save(); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	veth, err := n.plugIn(ctx)
	if err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	err = tell(in, boot.Config{
		Hostname: n.Name, Dir: n.Dir, Path: n.cluster.path(),
		Veth: veth, Address: n.Address + "/24", Gateway: n.cluster.Subnet + ".1",
		Cgroup: n.cgroup(), Services: services,
		Disk: n.disk(), Systemd: n.cluster.Systemd,
	})
	if err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line = strings.TrimSpace(line); line != boot.Ready {
		return errors.Join(fmt.Errorf("its first process says: %s", line), cmd.Process.Kill())
	}
	if n.cluster.Systemd {
		return n.awaitUnits(ctx, services)
	}
	return nil
}

// tell writes the configuration to a node's first process.
func tell(in io.WriteCloser, c boot.Config) error {
	return errors.Join(json.NewEncoder(in).Encode(c), in.Close())
}

// KillEverything pulls the plug: SIGKILL ends every process of the node at once, including
// those in containers, and its tmpfs are gone. What was written to disk stays. It returns when
// nothing of the node runs.
func (n *Node) KillEverything(ctx context.Context) error {
	if n.Running() {
		if err := syscall.Kill(n.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("cannot kill %s: %w", n.Name, err)
		}
	}
	for n.Running() { // the kernel ends the first process of a PID namespace last
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot kill %s: process %d is still there: %w", n.Name, n.PID, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return n.removeCgroups(ctx)
}

// Running says whether the node is switched on.
func (n *Node) Running() bool {
	start, state := startTime(n.PID)
	return n.PID != 0 && start != "" && start == n.Start && state != "Z" && state != "X"
}

// startTime returns when a process started, as the kernel reports it, and its state; empty if there
// is none (proc_pid_stat(5), fields 22 and 3).
func startTime(pid int) (start, state string) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", ""
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return fields[19], fields[0]
}

// Command returns a command that runs on the node, in all its namespaces, with the rig's systemctl,
// kubeadm, etcdctl and etcdutl on its PATH. When the context ends, the command is killed there,
// too; syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) does the same.
func (n *Node) Command(ctx context.Context, args ...string) *exec.Cmd {
	enter := n.Enter(args...)
	cmd := exec.CommandContext(ctx, enter[0], enter[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// Enter returns the words that run a command on the node, for a shell or for exec.
func (n *Node) Enter(args ...string) []string {
	return append([]string{"nsenter", "--target", strconv.Itoa(n.PID), "--mount", "--uts", "--ipc", "--net", "--pid",
		"env", "PATH=" + n.cluster.path(), "HOME=" + boot.Home}, args...)
}

// Exec runs a command on the node and returns its standard output. An error includes its standard
// error, and wraps *exec.ExitError.
func (n *Node) Exec(ctx context.Context, args ...string) ([]byte, error) {
	cmd := n.Command(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s on %s: %w\n%s%s", strings.Join(args, " "), n.Name, err, out, stderr.Bytes())
	}
	return out, nil
}

// StopKubelet stops the kubelet; containers keep running.
func (n *Node) StopKubelet(ctx context.Context) error {
	_, err := n.Exec(ctx, "systemctl", "stop", "kubelet")
	return err
}

// StartKubelet starts the kubelet.
func (n *Node) StartKubelet(ctx context.Context) error {
	_, err := n.Exec(ctx, "systemctl", "start", "kubelet")
	return err
}
