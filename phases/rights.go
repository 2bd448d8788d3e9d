package phases

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// Denied returns the first of the paths that every command looks at which this user may not read;
// empty if it may read all that is there. What cannot be read must not be taken for absent.
func (n *Node) Denied() string {
	dir := n.Look.Config.StaticPodPath
	wanted := []string{dir}
	if names, err := n.Look.FS.ReadDir(dir); err == nil {
		for _, name := range names {
			wanted = append(wanted, path.Join(dir, name))
		}
	}
	wanted = append(wanted, journal.RunsDir)
	if socket, found := strings.CutPrefix(n.Look.Config.RuntimeEndpoint, "unix://"); found {
		wanted = append(wanted, socket)
	}
	for _, name := range wanted {
		if errors.Is(unix.Access(n.Look.FS.Real(name), unix.R_OK), unix.EACCES) {
			return name
		}
	}
	return ""
}
