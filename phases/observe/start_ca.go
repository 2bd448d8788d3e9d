package observe

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"

	"github.com/etcdpod/etcdpod/phases/internal/bind"
)

// unusableCA says why the kubelet would not take the CA in its kubeconfig: a client is made of all
// that stands in it before its certificate is looked at (client-go, tools/clientcmd/validation.go
// and transport.TLSConfigFor).
func (n *Node) unusableCA(kubeconfig string) string {
	ca, named := bind.KubeconfigCA(n.FS, kubeconfig)
	where := kubeconfig
	if named != "" {
		if len(ca) > 0 {
			return fmt.Sprintf("%s has a CA and names another, %s, which no client takes", kubeconfig, named)
		}
		var err error
		switch ca, err = n.FS.ReadFile(named); {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Sprintf("the CA %s, which %s names, does not exist", named, kubeconfig)
		case err != nil:
			return fmt.Sprintf("cannot read the CA that %s names: %v", kubeconfig, err)
		}
		where = named
	}
	if len(ca) > 0 && !x509.NewCertPool().AppendCertsFromPEM(ca) {
		return where + " holds no CA that can be read"
	}
	return ""
}
