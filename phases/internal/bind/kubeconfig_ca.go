package bind

import (
	"path"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// KubeconfigCA is the CA that a kubeconfig's current context trusts: in PEM, in another file, or,
// where somebody has written both, in both, which no client takes. Without either, clients trust
// those of the system.
func KubeconfigCA(fs node.Reader, file string) (ca []byte, named string) {
	data, err := fs.ReadFile(file)
	if err != nil {
		return nil, ""
	}
	config, err := clientcmd.Load(data)
	if err != nil || config.Contexts[config.CurrentContext] == nil {
		return nil, ""
	}
	cluster := config.Clusters[config.Contexts[config.CurrentContext].Cluster]
	if cluster == nil {
		return nil, ""
	}
	if named = cluster.CertificateAuthority; named != "" && !path.IsAbs(named) {
		named = path.Join(path.Dir(file), named)
	}
	return cluster.CertificateAuthorityData, named
}
