package rig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"
)

// cgroup is the name of the node's own cgroup, at the top of every hierarchy.
func (n *Node) cgroup() string { return n.cluster.Bridge + "-" + n.Name }

// removeCgroups removes the cgroups that the node leaves, as a reboot does. The node is off, but
// the kernel may still be cleaning up its processes.
func (n *Node) removeCgroups(ctx context.Context) error {
	tops, err := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", n.cgroup()))
	if err != nil {
		return err
	}
	for _, top := range append(tops, filepath.Join("/sys/fs/cgroup", n.cgroup())) {
		for {
			err := removeTree(top)
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("cannot remove cgroup %s: %w", top, err)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return nil
}

// removeTree removes a cgroup directory and those below it, whose files cannot be removed.
func removeTree(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := syscall.Rmdir(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
