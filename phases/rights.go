package phases

import (
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Denied returns the first of the paths that commands look at which this user may not read; empty
// if it may read all that is there. What cannot be read must not be taken for absent.
func (n *Node) Denied() string {
	denies := func(name string, mode uint32) bool {
		name = n.Look.FS.Real(name)
		var st unix.Stat_t
		if unix.Stat(name, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			mode &^= unix.X_OK // a file in a directory's place nobody searches, root neither
		}
		return errors.Is(unix.Access(name, mode), unix.EACCES)
	}
	const pki = observe.KubeadmCertificatesDir
	for _, dir := range []string{n.Look.Config.StaticPodPath, journal.RunsDir, pki, path.Join(pki, "etcd")} {
		if denies(dir, unix.R_OK|unix.X_OK) {
			return dir
		}
		names, err := n.Look.FS.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, name := range names {
			if file := path.Join(dir, name); denies(file, unix.R_OK) {
				return file
			}
		}
	}
	if denies(observe.KubeadmDataDir, unix.R_OK|unix.X_OK) {
		return observe.KubeadmDataDir
	}
	socket, found := strings.CutPrefix(n.Look.Config.RuntimeEndpoint, "unix://")
	if found && denies(socket, unix.R_OK|unix.W_OK) { // to connect is to write
		return socket
	}
	return ""
}
