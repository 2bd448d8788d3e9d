package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/etcdpod/etcdpod/e2e/rig/internal/boot"
)

// isolate gives the node its own mounts and name. It runs in its own mount namespace; the
// host sees none of it.
func isolate(c boot.Config) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot keep the node's mounts to itself: %w", err)
	}
	overlay := fmt.Sprintf("lowerdir=/etc,upperdir=%s,workdir=%s",
		filepath.Join(c.Dir, boot.Etc), filepath.Join(c.Dir, boot.EtcWork))
	if err := syscall.Mount("overlay", "/etc", "overlay", 0, overlay); err != nil {
		return fmt.Errorf("cannot mount %s on /etc: %w", overlay, err)
	}
	for from, to := range map[string]string{
		boot.EtcKubernetes: "/etc/kubernetes",
		boot.VarLib:        "/var/lib",
		boot.VarLog:        "/var/log",
	} {
		if err := bind(filepath.Join(c.Dir, from), to); err != nil {
			return err
		}
	}
	if err := mountDisk(c.Disk); err != nil {
		return err
	}
	// Volumes that the kubelet mounts for a pod must be visible in containers that mount the
	// kubelet's directory.
	if err := bind("/var/lib/kubelet", "/var/lib/kubelet"); err != nil {
		return err
	}
	if err := syscall.Mount("", "/var/lib/kubelet", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("cannot share /var/lib/kubelet: %w", err)
	}
	for target, kind := range map[string]string{"/proc": "proc", "/run": "tmpfs"} {
		if err := syscall.Mount(kind, target, kind, 0, ""); err != nil {
			return fmt.Errorf("cannot mount %s on %s: %w", kind, target, err)
		}
	}
	if err := mountCgroups(c.Cgroup); err != nil {
		return err
	}
	if err := kernelTunables(); err != nil {
		return err
	}
	return syscall.Sethostname([]byte(c.Hostname))
}

// mountDisk mounts the node's own disk, if it has one. The loop device goes with the mount.
func mountDisk(file string) error {
	if file == "" {
		return nil
	}
	if out, err := exec.Command("mount", "-o", "loop", file, "/var/lib").CombinedOutput(); err != nil {
		return fmt.Errorf("cannot mount the disk %s: %w: %s", file, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func bind(from, to string) error {
	if err := syscall.Mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("cannot mount %s on %s: %w", from, to, err)
	}
	return nil
}

// kernelTunables shows the kubelet the settings that it insists on (setupKernelTunables,
// pkg/kubelet/cm), and systemd those that it raises, so that they leave the host's alone.
func kernelTunables() error {
	for name, value := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
		"fs/nr_open": "1048576", "fs/file-max": "9223372036854775807",
	} {
		file := filepath.Join("/run", "sysctl-"+strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := bind(file, filepath.Join("/proc/sys", name)); err != nil {
			return err
		}
	}
	return nil
}

// network brings up the interface that the host moved into the node's network namespace. kubeadm
// and the kubelet look for a default route.
func network(c boot.Config) error {
	for _, line := range []string{
		"ip link set lo up",
		"ip link set " + c.Veth + " name eth0",
		"ip addr add " + c.Address + " dev eth0",
		"ip link set eth0 up",
		"ip route add default via " + c.Gateway,
	} {
		words := strings.Fields(line)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot set up the node's network: %s: %w: %s", line, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
