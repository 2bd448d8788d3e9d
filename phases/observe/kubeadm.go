package observe

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
	"sigs.k8s.io/yaml"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/pki"
	"github.com/etcdpod/etcdpod/templates"
)

func (n *Node) KubeadmConfig(ctx context.Context, f *Facts) (string, error) {
	if f.API.Kubeconfig == "" {
		return "", errors.New("there is no kubeconfig")
	}
	config, err := bind.APIServerOf(n.FS).ClusterConfiguration(ctx, f.API)
	return config.Text(), err
}

// CertsConfig is what certificates take from kubeadm's ClusterConfiguration.
type CertsConfig struct {
	Error      error // why it cannot be read
	Algorithm  string
	Validity   time.Duration
	ServerSANs []string
	PeerSANs   []string
}

// CertsConfigOf reads kubeadm's ClusterConfiguration from the API server. Where that cannot be
// asked, certificates keep what they have.
func (n *Node) CertsConfigOf(ctx context.Context, f *Facts) CertsConfig {
	if !HasAPIServer(f) {
		return CertsConfig{Error: errors.New("no API server runs here")}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	config, err := bind.APIServerOf(n.FS).ClusterConfiguration(ctx, f.API)
	if err != nil {
		return CertsConfig{Error: err}
	}
	return ParseCertsConfig(config.Text())
}

func ParseCertsConfig(text string) CertsConfig {
	var c struct {
		EncryptionAlgorithm       string          `json:"encryptionAlgorithm"`
		CertificateValidityPeriod string          `json:"certificateValidityPeriod"`
		FeatureGates              map[string]bool `json:"featureGates"`
		Etcd                      struct {
			Local struct {
				ServerCertSANs []string `json:"serverCertSANs"`
				PeerCertSANs   []string `json:"peerCertSANs"`
			} `json:"local"`
		} `json:"etcd"`
	}
	err := yaml.Unmarshal([]byte(text), &c)
	config := CertsConfig{Algorithm: c.EncryptionAlgorithm, ServerSANs: c.Etcd.Local.ServerCertSANs,
		PeerSANs: c.Etcd.Local.PeerCertSANs}
	if err == nil && c.CertificateValidityPeriod != "" {
		config.Validity, err = time.ParseDuration(c.CertificateValidityPeriod)
	}
	// kubeadm to 1.36, app/apis/kubeadm/types.go: EncryptionAlgorithmType.
	if c.FeatureGates["PublicKeysECDSA"] {
		config.Algorithm = string(pki.ECDSAP256)
	}
	if err != nil {
		return CertsConfig{Error: fmt.Errorf("cannot read kubeadm's ClusterConfiguration: %w", err)}
	}
	return config
}

// KubeadmOptions are what a person may say of kubeadm's configuration. Empty ones
// are kubeadm's defaults.
type KubeadmOptions struct {
	// kubeadm's configuration file, a path of this process; empty: the flags alone.
	Config string
	// kubeadm.k8s.io/v1, which kubeadm 1.37 reads behind a flag of the same name.
	AllowExperimentalAPI bool

	// As kubeadm's flags.
	NodeName, AdvertiseAddress, KubernetesVersion, ImageRepository, CertificatesDir, PatchesDir string
}

// Read reads kubeadm's configuration, a file of this process; for a member that joins, with what
// the cluster keeps of it, if that is known.
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

// readConfig reads a file of this process, or a pipe.
func readConfig(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return node.ReadWhole(f)
}

// ReadPatches reads kubeadm's patches, those of directories below, too (kubeadm, util/patches:
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
		// Of the others only the name is told.
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

var errNoKubeconfig = errors.New("no kubeconfig of an administrator is on this node")

// askAPI: an API server that does not answer is not waited for: the cluster may be in a bad way.
const askAPI = 5 * time.Second

// anyAPI is an API server of the cluster. The one on this node serves when this node's etcd does,
// which is yet to come: the kubeconfig's is asked.
func (n *Node) anyAPI(f *Facts) (op.APIAccess, error) {
	a := n.ApiAccess(f.Manifests)
	if a.Kubeconfig == "" {
		return a, errNoKubeconfig
	}
	a.Server = ""
	return a, nil
}

// KeptConfiguration is the ClusterConfiguration that the cluster keeps.
func (n *Node) KeptConfiguration(ctx context.Context, f *Facts) ([]byte, error) {
	a, err := n.anyAPI(f)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askAPI)
	defer cancel()
	kept, err := bind.APIServerOf(n.FS).ClusterConfiguration(ctx, a)
	if err != nil {
		return nil, err
	}
	if kept.Text() == "" {
		return nil, errors.New("the cluster keeps none")
	}
	return []byte(kept.Text()), nil
}

// Annotated are the client URLs that kubeadm writes on etcd's pods (kubeadm,
// util/etcd: getRawEtcdEndpointsFromPodAnnotation).
func (n *Node) Annotated(ctx context.Context, f *Facts) ([]string, error) {
	a, err := n.anyAPI(f)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askAPI)
	defer cancel()
	return bind.APIServerOf(n.FS).EtcdEndpoints(ctx, a)
}
