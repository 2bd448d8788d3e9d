package observe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/templates"
)

// KubeadmOptions are what the operator may say about kubeadm's configuration. An empty one means
// kubeadm's default.
type KubeadmOptions struct {
	// Config is kubeadm's configuration file, a path of this process; empty: the flags alone.
	Config string
	// AllowExperimentalAPI allows kubeadm.k8s.io/v1, which kubeadm 1.37 reads behind a flag of the
	// same name.
	AllowExperimentalAPI bool

	// The same as kubeadm's flags.
	NodeName, AdvertiseAddress, KubernetesVersion, ImageRepository, CertificatesDir, PatchesDir string
}

// Check refuses names of files that are not there. What they hold is read once, since that may come
// from a pipe.
func (o KubeadmOptions) Check() error {
	if _, err := os.Stat(o.Config); o.Config != "" && err != nil {
		return &engine.UsageError{Reason: fmt.Sprintf("cannot read kubeadm's configuration: %v", said(err)),
			Hint: "--config takes the file that kubeadm takes, as `kubeadm config print init-defaults` shows it"}
	}
	if _, err := os.Stat(o.PatchesDir); o.PatchesDir != "" && err != nil {
		return &engine.UsageError{Reason: fmt.Sprintf("cannot read the patches in %v", said(err)),
			Hint: "--patches takes the directory that kubeadm takes"}
	}
	return nil
}

// said leaves the system call out of an error about a name that was given.
func said(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return fmt.Errorf("%s: %w", at.Path, at.Err)
	}
	return err
}

// Read reads kubeadm's configuration, from a path of this process; for a member that joins,
// together with the configuration that the cluster keeps, if that is known.
func (o KubeadmOptions) Read(n *Node, join bool, kept []byte) (*templates.Config, error) {
	given := templates.Options{
		Join: join, Cluster: kept, AllowExperimentalAPI: o.AllowExperimentalAPI,
		Hostname: n.Name, NodeName: o.NodeName, AdvertiseAddress: o.AdvertiseAddress,
		KubernetesVersion: o.KubernetesVersion, ImageRepository: o.ImageRepository,
		CertificatesDir: o.CertificatesDir, PatchesDir: o.PatchesDir,
	}
	if ip, err := utilnet.ChooseHostInterface(); err == nil {
		given.DefaultAddress = ip.String()
	}
	var text []byte
	if o.Config != "" {
		var err error
		if text, err = readConfig(o.Config); err != nil {
			return nil, &engine.UsageError{Reason: fmt.Sprintf("cannot read kubeadm's configuration: %v", err)}
		}
	}
	c, err := templates.Read(text, given)
	if err != nil {
		return nil, &engine.UsageError{Reason: fmt.Sprintf("cannot use kubeadm's configuration: %v", err),
			Hint: engine.Hint(err)}
	}
	return c, nil
}

// readConfig reads a path of this process, which may be a pipe.
func readConfig(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return node.ReadWhole(f)
}

// ReadPatches reads kubeadm's patches, including those in subdirectories (kubeadm, util/patches:
// getPatchSetsFromPath). The directory is a path of this process.
func ReadPatches(dir string) (*templates.Patches, error) {
	if dir == "" {
		return nil, nil
	}
	files := map[string][]byte{}
	below := os.DirFS(dir)
	err := fs.WalkDir(below, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		// Other files are passed on by name only.
		if files[name] = nil; slices.Contains([]string{".yaml", ".json"}, path.Ext(name)) {
			files[name], err = fs.ReadFile(below, name)
		}
		return err
	})
	if err != nil {
		return nil, &engine.UsageError{Reason: fmt.Sprintf("cannot read the patches in %s: %v", dir, err)}
	}
	patches, err := templates.ReadPatches(files)
	if err != nil {
		return nil, &engine.UsageError{Reason: err.Error(), Hint: engine.Hint(err)}
	}
	return patches, nil
}
