package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/pki"
)

// ClusterConfiguration is the part that etcdpod needs of the ClusterConfiguration that kubeadm
// keeps in the cluster: v1beta3, v1beta4 or v1 (kubeadm, app/apis/kubeadm).
type ClusterConfiguration struct {
	CertificatesDir           string // never empty
	EncryptionAlgorithm       string // as in package pki; empty is RSA-2048
	CertificateValidityPeriod time.Duration
	DataDir                   string        // of etcd.local; empty when etcd is external
	ImageTag                  string        // of etcd.local; empty: kubeadm's own
	ServerCertSANs            []string      // of etcd.local
	PeerCertSANs              []string      // of etcd.local
	External                  *ExternalEtcd // etcd.external; nil when etcd is local
	APIServerArgs             [][2]string   // apiServer.extraArgs: names and values
}

// KubeadmDataDir is kubeadm's default (app/apis/kubeadm/v1beta4/defaults.go).
const KubeadmDataDir = "/var/lib/etcd"

// ExternalEtcd is an etcd that kubeadm did not set up; the files are host paths.
type ExternalEtcd struct {
	Endpoints                 []string
	CAFile, CertFile, KeyFile string
}

// ParseClusterConfiguration reads kubeadm's ClusterConfiguration.
func ParseClusterConfiguration(text string) (ClusterConfiguration, error) {
	var c struct {
		CertificatesDir           string          `json:"certificatesDir"`
		EncryptionAlgorithm       string          `json:"encryptionAlgorithm"`
		CertificateValidityPeriod string          `json:"certificateValidityPeriod"`
		FeatureGates              map[string]bool `json:"featureGates"`
		Etcd                      struct {
			Local struct {
				DataDir        string   `json:"dataDir"`
				ImageTag       string   `json:"imageTag"`
				ServerCertSANs []string `json:"serverCertSANs"`
				PeerCertSANs   []string `json:"peerCertSANs"`
			} `json:"local"`
			External *ExternalEtcd `json:"external"`
		} `json:"etcd"`
		APIServer struct {
			ExtraArgs any `json:"extraArgs"`
		} `json:"apiServer"`
	}
	err := yaml.Unmarshal([]byte(text), &c)
	config := ClusterConfiguration{
		CertificatesDir: cmp.Or(c.CertificatesDir, KubeadmCertificatesDir), EncryptionAlgorithm: c.EncryptionAlgorithm,
		ImageTag:       c.Etcd.Local.ImageTag,
		ServerCertSANs: c.Etcd.Local.ServerCertSANs, PeerCertSANs: c.Etcd.Local.PeerCertSANs,
		External: c.Etcd.External, APIServerArgs: extraArgs(c.APIServer.ExtraArgs),
	}
	if config.External == nil {
		config.DataDir = cmp.Or(c.Etcd.Local.DataDir, KubeadmDataDir)
	}
	if err == nil && c.CertificateValidityPeriod != "" {
		config.CertificateValidityPeriod, err = time.ParseDuration(c.CertificateValidityPeriod)
	}
	if err != nil {
		return ClusterConfiguration{}, fmt.Errorf("cannot read kubeadm's ClusterConfiguration: %w", err)
	}
	// kubeadm up to 1.36, app/apis/kubeadm/types.go: EncryptionAlgorithmType.
	if c.FeatureGates["PublicKeysECDSA"] {
		config.EncryptionAlgorithm = string(pki.ECDSAP256)
	}
	return config, nil
}

// extraArgs reads a list (from v1beta4 on) or a map (v1beta3).
func extraArgs(given any) (args [][2]string) {
	switch given := given.(type) {
	case map[string]any:
		for name, value := range given {
			args = append(args, [2]string{name, fmt.Sprint(value)})
		}
	case []any:
		for _, arg := range given {
			if a, ok := arg.(map[string]any); ok {
				args = append(args, [2]string{fmt.Sprint(a["name"]), fmt.Sprint(a["value"])})
			}
		}
	}
	return args
}

// KeptConfiguration asks an API server for the ClusterConfiguration that the cluster keeps, as
// unparsed YAML. It waits at most 10 s.
func (n *Node) KeptConfiguration(ctx context.Context, a op.APIAccess) (string, error) {
	if a.Kubeconfig == "" {
		return "", errNoKubeconfig
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	text, err := bind.NewAPIServer(n.FS).ClusterConfiguration(ctx, a)
	if err == nil && text == "" {
		err = errors.New("the cluster has none")
	}
	return text, err
}

// ClusterConfiguration is [Node.KeptConfiguration], parsed.
func (n *Node) ClusterConfiguration(ctx context.Context, a op.APIAccess) (ClusterConfiguration, error) {
	text, err := n.KeptConfiguration(ctx, a)
	if err != nil {
		return ClusterConfiguration{}, err
	}
	return ParseClusterConfiguration(text)
}

var errNoKubeconfig = errors.New("there is no administrator's kubeconfig on this node")

// AnyAPIServer is how to reach an API server of the cluster before there is an etcd on this node,
// and so before the local API server serves: at the address in the kubeconfig.
func (n *Node) AnyAPIServer() op.APIAccess { return n.APIAccess(nil) }

// AnnotatedURLs are the client URLs that kubeadm writes into the annotations of etcd's pods
// (kubeadm, util/etcd: getRawEtcdEndpointsFromPodAnnotation). It waits at most 5 s: the cluster may
// be unhealthy.
func (n *Node) AnnotatedURLs(ctx context.Context, a op.APIAccess) ([]string, error) {
	if a.Kubeconfig == "" {
		return nil, errNoKubeconfig
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return bind.NewAPIServer(n.FS).EtcdEndpoints(ctx, a)
}
