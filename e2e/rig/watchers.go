package rig

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// watchers is how many inotify instances root is to have, which all nodes share: one takes about 16
// (the kubelet 7, the API server 6), and Linux allows 128 (inotify(7)). Beyond that containerd
// starts without the CRI, and the kubelet ends again and again, on whichever node comes last.
const (
	watchers      = 8192
	watchersLimit = "/proc/sys/fs/inotify/max_user_instances"
)

// allowWatchers raises the limit of this machine, and leaves it raised: other clusters may need it.
func allowWatchers() error {
	data, err := os.ReadFile(watchersLimit)
	if err != nil {
		return err
	}
	now, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || now >= watchers {
		return err
	}
	if err := os.WriteFile(watchersLimit, []byte(strconv.Itoa(watchers)), 0o644); err != nil {
		return fmt.Errorf("cannot allow more inotify instances than %d: %w", now, err)
	}
	return nil
}
