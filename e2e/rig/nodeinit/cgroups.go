package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// ownCgroups puts this process and its children into the node's own cgroups, in a cgroup
// namespace: otherwise the kubelet would inspect every container's cgroup on the host, for
// seconds each, before it starts the first pod. A namespace belongs to one thread, so the process
// executes itself again.
func ownCgroups(cgroup, config string) error {
	hierarchies, unified, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range hierarchies {
		dir := filepath.Join(h, cgroup)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		// In version 1 a cpuset starts empty, and accepts no process.
		for _, inherited := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(h, inherited))
			if err != nil || unified {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, inherited), value, 0o644); err != nil {
				return err
			}
		}
		if err := enter(dir); err != nil {
			return err
		}
	}
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("cannot make a cgroup namespace: %w", err)
	}
	return syscall.Exec("/proc/self/exe", []string{"nodeinit", secondStage, config}, os.Environ())
}

// mountCgroups shows the node only its own cgroups. It runs in the cgroup namespace.
func mountCgroups(cgroup string) error {
	hierarchies, unified, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range hierarchies {
		if err := bind(filepath.Join(h, cgroup), h); err != nil {
			return err
		}
	}
	if !unified {
		return nil
	}
	// In version 2 a cgroup with processes cannot have children with controllers.
	first := filepath.Join(hierarchies[0], "init")
	if err := os.MkdirAll(first, 0o755); err != nil {
		return err
	}
	return enter(first)
}

func enter(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644); err != nil {
		return fmt.Errorf("cannot enter cgroup %s: %w", dir, err)
	}
	return nil
}

// hierarchies returns where the host's cgroups are: in one place (version 2), or one
// for each controller.
func hierarchies() (dirs []string, unified bool, err error) {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err == nil {
		return []string{root}, true, nil
	}
	files, err := filepath.Glob(filepath.Join(root, "*", "cgroup.procs"))
	if err != nil {
		return nil, false, err
	}
	for _, f := range files {
		// cpu may be a link to cpu,cpuacct.
		if info, err := os.Lstat(filepath.Dir(f)); err == nil && info.IsDir() {
			dirs = append(dirs, filepath.Dir(f))
		}
	}
	return dirs, false, nil
}
