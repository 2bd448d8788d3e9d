package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/pki"
)

// ReadOptional returns nil for a file that does not exist, or whose name is empty.
func (n *Node) ReadOptional(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	data, err := n.FS.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && n.Exists(file):
		return nil, fmt.Errorf("cannot read %s: it is a broken link", file)
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", file, err)
	}
	return data, nil
}

// KubeadmCertificatesDir is where kubeadm keeps certificates unless its configuration says
// otherwise (kubeadm, app/apis/kubeadm/v1beta4/defaults.go).
const KubeadmCertificatesDir = "/etc/kubernetes/pki"

// ObserveFiles is [Node.Observe] for files only: it does not ask the kubelet or etcd.
func (n *Node) ObserveFiles(ctx context.Context, id string) (*Facts, error) {
	f := &Facts{Run: id, Now: n.Clock.Now().UTC(), Node: n.Name,
		ManifestDir: n.Config.StaticPodPath, StaticPodURL: n.Config.StaticPodURL}
	var err error
	f.Manifests, err = n.Manifests(ctx, f.ManifestDir)
	f.Elsewhere = n.Elsewhere(f.Manifests)
	return f, err
}

// Missing adds dir, and the directories above it, to the known ones, as far as they do not exist;
// outermost first.
func (n *Node) Missing(known []string, dir string) []string {
	for ; dir != "/" && !n.Exists(dir); dir = path.Dir(dir) {
		if !slices.Contains(known, dir) {
			known = append(known, dir)
		}
	}
	slices.Sort(known) // a directory sorts before what is in it
	return known
}

// Exists says whether a host path exists, even as a dangling link. An empty path does not.
func (n *Node) Exists(file string) bool {
	if file == "" {
		return false
	}
	_, err := n.FS.Lstat(file)
	return err == nil
}

// Nearest returns the closest parent that exists, or the path itself.
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

// ReadJSON decodes a JSON file into value.
func ReadJSON(fsys node.Reader, name string, value any) error {
	data, err := fsys.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, value)
}
