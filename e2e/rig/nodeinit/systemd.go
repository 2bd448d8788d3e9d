package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/etcdpod/etcdpod/e2e/rig/internal/boot"
)

// unitDir is the node's own: its /etc is a layer over the host's, where units of these names may be
// masked.
const unitDir = "/etc/systemd/system"

// The units are those of Debian's containerd and sshd, and of kubeadm's package for the kubelet
// with its drop-in. They need nothing of what a boot of the host would start, so they have none of
// the default dependencies.
var systemdUnits = map[string]string{
	"containerd": `[Unit]
Description=containerd container runtime
DefaultDependencies=no

[Service]
Type=notify
Environment=PATH=$PATH
ExecStart=$containerd --config /var/lib/containerd.toml
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNOFILE=1048576
TasksMax=infinity
StandardOutput=append:/var/log/containerd.log
StandardError=append:/var/log/containerd.log
`,
	"ssh": `[Unit]
Description=OpenBSD Secure Shell server
DefaultDependencies=no

[Service]
Type=notify
ExecStart=$sshd -D -e -f /etc/ssh/sshd_config
KillMode=process
Restart=always
RestartSec=5
RuntimeDirectory=sshd
StandardOutput=append:/var/log/sshd.log
StandardError=append:/var/log/sshd.log
`,
	"kubelet": `[Unit]
Description=kubelet: The Kubernetes Node Agent
DefaultDependencies=no
StartLimitIntervalSec=0

[Service]
Environment=PATH=$PATH
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=$kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=10
StandardOutput=append:/var/log/kubelet.log
StandardError=append:/var/log/kubelet.log
`,
}

// bootTarget is all that systemd starts: the host's own targets are not the node's.
const bootTarget = "rig.target"

// handOver makes systemd the first process, in this one's place. It is told that it is in a
// container, so that it leaves alone what the node shares with the host.
func handOver(c boot.Config) error {
	if err := writeUnits(c); err != nil {
		return fmt.Errorf("cannot prepare systemd: %w", err)
	}
	// What it says in its first moments goes to the console, which is the host's.
	const console = "/var/log/console.log"
	if err := os.WriteFile(console, nil, 0o644); err != nil {
		return err
	}
	if err := bind(console, "/dev/console"); err != nil {
		return err
	}
	fmt.Println(boot.Ready)
	return syscall.Exec(boot.Systemd, []string{boot.Systemd, "--system", "--unit=" + bootTarget,
		"--log-target=console", "--show-status=no"}, []string{"container=etcdpod-rig", "PATH=" + c.Path})
}

func writeUnits(c boot.Config) error {
	texts := map[string]string{bootTarget: "[Unit]\nDefaultDependencies=no\nWants=" +
		strings.Join(c.Services, ".service ") + ".service\n"}
	for name, text := range systemdUnits {
		for _, program := range []string{"containerd", "sshd", "kubelet"} {
			path, err := exec.LookPath(program)
			if err != nil {
				return err
			}
			text = strings.ReplaceAll(text, "ExecStart=$"+program+" ", "ExecStart="+path+" ")
		}
		texts[name+".service"] = strings.ReplaceAll(text, "$PATH", c.Path)
	}
	// Systemd names the machine as this file does.
	if err := os.WriteFile("/etc/hostname", []byte(c.Hostname+"\n"), 0o644); err != nil {
		return err
	}
	for name, text := range texts {
		path := filepath.Join(unitDir, name)
		// It may be a link of the host's to /dev/null.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
