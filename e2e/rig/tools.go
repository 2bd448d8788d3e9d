package rig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// tools are the programs that every node needs, and the packages of Debian that have them.
var tools = [][2]string{{"containerd", "containerd"}, {"ctr", "containerd"}, {"runc", "runc"},
	{"ip", "iproute2"}, {"nsenter", "util-linux"}, {"iptables", "iptables"}, {"conntrack", "conntrack"},
	{"socat", "socat"}, {"ssh", "openssh-client"}, {"sshd", "openssh-server"}}

// installTools installs, from Debian, the programs that this host lacks. It does not matter if that
// starts a containerd on the host: each node has its own, with its own socket and directories.
func installTools(ctx context.Context, tools [][2]string) error {
	free, err := oneByOne()
	if err != nil {
		return err
	}
	defer free()
	var missing []string
	for _, t := range tools {
		if _, err := exec.LookPath(t[0]); err != nil {
			missing = append(missing, t[1])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	say("installing %s with apt-get", strings.Join(missing, ", "))
	if slices.Contains(missing, "openssh-server") {
		if err := maskSSHD(); err != nil {
			return fmt.Errorf("cannot install openssh-server: %w", err)
		}
	}
	for _, args := range [][]string{
		{"update"}, append([]string{"install", "--yes", "--no-install-recommends"}, missing...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		// In runlevel 1 invoke-rc.d(8) starts nothing.
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot install %s: apt-get %s: %w\n%s", strings.Join(missing, ", "), args[0], err, out)
		}
	}
	return nil
}

// maskSSHD keeps systemd from starting the sshd that is about to be installed: a host without one
// does not want one that listens. `systemctl unmask ssh ssh.socket` undoes it.
func maskSSHD() error {
	const units = "/etc/systemd/system"
	if err := os.MkdirAll(units, 0o755); err != nil {
		return err
	}
	for _, unit := range []string{"ssh.service", "ssh.socket"} {
		if err := os.Symlink("/dev/null", filepath.Join(units, unit)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

func (c *Cluster) bin() string { return filepath.Join(c.Dir, "bin") }

// path is the PATH on a node. It includes the etcdpod from make build.
func (c *Cluster) path() string {
	return c.bin() + ":" + filepath.Join(c.Root, "bin") +
		":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// makePath fills the first directory on the nodes' PATH.
func (c *Cluster) makePath(ctx context.Context) error {
	if err := os.MkdirAll(c.bin(), 0o755); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath",
		"-o", filepath.Join(c.bin(), "nodeinit"), "./e2e/rig/nodeinit")
	build.Dir = c.Root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build nodeinit: %w\n%s", err, out)
	}
	links := map[string]string{}
	if !c.Systemd {
		links["systemctl"] = "nodeinit"
	}
	err := c.containerdLinks(ctx, links)
	if err != nil {
		return err
	}
	for _, program := range []string{"kubelet", "kubeadm"} {
		if links[program], err = binaries.Kubernetes(ctx, program); err != nil {
			return err
		}
	}
	if links["etcdctl"], err = binaries.Etcdctl(ctx, c.etcdBinary()); err != nil {
		return err
	}
	if links["etcdutl"], err = binaries.Etcdutl(ctx, c.etcdBinary()); err != nil {
		return err
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(c.bin(), name)); err != nil {
			return err
		}
	}
	return nil
}

// etcdBinary is the version of the etcd that runs.
func (c *Cluster) etcdBinary() string {
	if c.EtcdVersion == "" {
		return binaries.Etcd37
	}
	return c.EtcdVersion
}

// say tells whoever waits for the cluster what takes so long.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// oneByOne blocks other rigs of this host until free is called, for steps that look for something
// free and then take it.
func oneByOne() (free func() error, err error) {
	f, err := os.OpenFile("/run/etcdpod-rig.lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", f.Name(), err), f.Close())
	}
	return f.Close, nil
}
