package phases

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/templates"
)

// KubeadmOptions are what a person may say of kubeadm's configuration. Empty ones are kubeadm's defaults.
type KubeadmOptions struct {
	Config               string // kubeadm's configuration file, a path of this process; empty: the flags alone
	AllowExperimentalAPI bool   // kubeadm.k8s.io/v1, which kubeadm 1.37 reads behind a flag of the same name

	NodeName, AdvertiseAddress, KubernetesVersion, ImageRepository, CertificatesDir, PatchesDir string // as kubeadm's flags
}

// read reads kubeadm's configuration, a file of this process; for a member that joins, with what the cluster keeps of it, if that is known.
func (o KubeadmOptions) read(n *View, join bool, kept []byte) (*templates.Config, error) {
	given := templates.Options{
		Join: join, Cluster: kept, AllowExperimentalAPI: o.AllowExperimentalAPI, Hostname: n.Name, NodeName: o.NodeName, AdvertiseAddress: o.AdvertiseAddress,
		KubernetesVersion: o.KubernetesVersion, ImageRepository: o.ImageRepository, CertificatesDir: o.CertificatesDir, PatchesDir: o.PatchesDir,
	}
	if ip, err := utilnet.ChooseHostInterface(); err == nil {
		given.DefaultAddress = ip.String()
	}
	var text []byte
	if o.Config != "" {
		var err error
		if text, err = readConfig(o.Config); err != nil {
			return nil, &UsageError{Reason: fmt.Sprintf("cannot read kubeadm's configuration: %v", err)}
		}
	}
	c, err := templates.Read(text, given)
	if err != nil {
		return nil, &UsageError{Reason: fmt.Sprintf("cannot use kubeadm's configuration: %v", err), Hint: Hint(err)}
	}
	return c, nil
}

// readConfig reads a file of this process, or a pipe.
func readConfig(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return node.ReadWhole(f)
}

// readPatches reads kubeadm's patches, those of directories below, too (kubeadm, util/patches: getPatchSetsFromPath). The directory is a path of this process.
func readPatches(dir string) (*templates.Patches, error) {
	if dir == "" {
		return nil, nil
	}
	files := map[string][]byte{}
	below := os.DirFS(dir)
	err := fs.WalkDir(below, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if files[name] = nil; slices.Contains([]string{".yaml", ".json"}, path.Ext(name)) { // of the others only the name is told
			files[name], err = fs.ReadFile(below, name)
		}
		return err
	})
	if err != nil {
		return nil, &UsageError{Reason: fmt.Sprintf("cannot read the patches in %s: %v", dir, err)}
	}
	patches, err := templates.ReadPatches(files)
	if err != nil {
		return nil, &UsageError{Reason: err.Error(), Hint: Hint(err)}
	}
	return patches, nil
}

var errNoKubeconfig = errors.New("no kubeconfig of an administrator is on this node")

// askAPI: an API server that does not answer is not waited for: the cluster may be in a bad way.
const askAPI = 5 * time.Second

// anyAPI is an API server of the cluster. The one on this node serves when this node's etcd does, which is yet to come: the kubeconfig's is asked.
func (n *View) anyAPI(f *Facts) (op.APIAccess, error) {
	a := n.apiAccess(f.Manifests)
	if a.Kubeconfig == "" {
		return a, errNoKubeconfig
	}
	a.Server = ""
	return a, nil
}

// keptConfiguration is the ClusterConfiguration that the cluster keeps.
func (n *View) keptConfiguration(ctx context.Context, f *Facts) ([]byte, error) {
	a, err := n.anyAPI(f)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askAPI)
	defer cancel()
	kept, err := apiServerOf(n.FS).clusterConfiguration(ctx, a)
	if err != nil {
		return nil, err
	}
	if kept.text() == "" {
		return nil, errors.New("the cluster keeps none")
	}
	return []byte(kept.text()), nil
}

// annotated are the client URLs that kubeadm writes on etcd's pods (kubeadm, util/etcd: getRawEtcdEndpointsFromPodAnnotation).
func (n *View) annotated(ctx context.Context, f *Facts) ([]string, error) {
	a, err := n.anyAPI(f)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askAPI)
	defer cancel()
	return apiServerOf(n.FS).etcdEndpoints(ctx, a)
}
