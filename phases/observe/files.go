package observe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/pki"
)

// ReadOptional returns nil for a file that is not there, or has no name.
func (n *Node) ReadOptional(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	data, err := n.FS.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && n.Exists(file):
		return nil, fmt.Errorf("cannot read %s: it is a link to something that is not there", file)
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", file, err)
	}
	return data, nil
}

// KubeadmCertificatesDir is where kubeadm keeps certificates, unless its configuration says
// otherwise (kubeadm, app/apis/kubeadm/v1beta4/defaults.go).
const KubeadmCertificatesDir = "/etc/kubernetes/pki"

// ObserveFiles is [Node.Observe] without anything that runs: the kubelet, the container runtime and
// etcd are not asked.
func (n *Node) ObserveFiles(id string) (*Facts, error) {
	f := &Facts{Run: id, Now: n.Clock.Now().UTC(), Node: n.Name,
		ManifestDir: n.Config.StaticPodPath, StaticPodURL: n.Config.StaticPodURL}
	var err error
	f.Manifests, err = n.Manifests(f.ManifestDir)
	return f, err
}

// Missing adds a directory, and those above it, that are not there to those that are known not to
// be; the outermost come first.
func (n *Node) Missing(known []string, dir string) []string {
	for ; dir != "/" && !n.Exists(dir); dir = path.Dir(dir) {
		if !slices.Contains(known, dir) {
			known = append(known, dir)
		}
	}
	slices.Sort(known) // a directory comes before what is in it
	return known
}

// Exists says whether a host path is there, a link that leads nowhere included.
// An empty path is not.
func (n *Node) Exists(file string) bool {
	if file == "" {
		return false
	}
	_, err := n.FS.Lstat(file)
	return err == nil
}

// Nearest returns the closest parent that is there.
func Nearest(fsys node.Reader, name string) string {
	for name != "/" {
		if _, err := fsys.Lstat(name); err == nil {
			return name
		}
		name = path.Dir(name)
	}
	return name
}

func fingerprint(data []byte) string { return pki.Fingerprint(data) }

// ReadJSON reads a file of JSON into value.
func ReadJSON(fsys node.Reader, name string, value any) error {
	data, err := fsys.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, value)
}
