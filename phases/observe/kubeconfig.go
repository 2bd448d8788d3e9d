package observe

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/pki"
)

// kubernetesDir is where kubeadm writes kubeconfigs (kubeadm, app/constants).
const kubernetesDir = "/etc/kubernetes"

// administrators are the administrators' kubeconfigs that kubeadm writes, the best one first: the
// first needs no RBAC rule, which a restored cluster may lack.
func administrators() []string {
	return []string{kubernetesDir + "/super-admin.conf", kubernetesDir + "/admin.conf"}
}

// KubeconfigNames are all kubeconfigs that kubeadm writes, by the names that it calls their
// certificates (kubeadm, app/phases/certs/renewal).
func KubeconfigNames() []string {
	return []string{"admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf"}
}

// KubeconfigPath is where kubeadm puts the kubeconfig of that name.
func KubeconfigPath(name string) string { return path.Join(kubernetesDir, name) }

// Kubeconfig is a kubeconfig on this node.
type Kubeconfig struct {
	Path    string // on the host
	Problem string // why no API server will take it; empty: nothing tells against it
	Fix     string // what to do about the problem
	// NeedsBinding says that its rights hang on the ClusterRoleBinding kubeadm:cluster-admins,
	// which a snapshot may lack.
	NeedsBinding bool
}

// adminsGroup is the group of kubeadm's admin.conf, and the name of the binding that gives it its
// rights (kubeadm, app/constants: ClusterAdminsGroupAndClusterRoleBinding).
const adminsGroup = "kubeadm:cluster-admins"

// Kubeconfig looks at one; nil when it is not there. caFile is the CA by which the API server knows
// its clients; empty when unknown.
func (n *Node) Kubeconfig(file, caFile string, now time.Time) *Kubeconfig {
	if !n.Exists(file) {
		return nil
	}
	k := &Kubeconfig{Path: file}
	leaf, err := n.KubeconfigLeaf(file, caFile)
	if err != nil {
		k.Problem, k.Fix = err.Error(), remade(file)
		return k
	}
	if leaf == nil {
		return k // a token: only the API server can judge it
	}
	if c, err := pki.Inspect(file, leaf.Cert, now); err == nil {
		k.NeedsBinding = slices.Equal(c.Groups, []string{adminsGroup})
	}
	problems := leaf.Check(now)
	if len(problems) == 0 {
		return k
	}
	switch k.Problem = problems[0].What; problems[0].Kind {
	case pki.Expired:
		k.Fix = fmt.Sprintf("run `kubeadm certs renew %s`", path.Base(file))
	case pki.NotYetValid:
		k.Fix = "set this node's clock"
	default:
		k.Fix = remade(file)
	}
	return k
}

func remade(file string) string {
	name := path.Base(file)
	return fmt.Sprintf("move %s away, and create it again: `kubeadm init phase kubeconfig %s`",
		file, name[:len(name)-len(path.Ext(name))])
}

// KubeconfigLeaf is the certificate in a kubeconfig, or the one that it names, with its key; nil
// when it has none and needs none.
func (n *Node) KubeconfigLeaf(file, caFile string) (*pki.Leaf, error) {
	read, err := bind.Kubeconfig(n.FS, file)
	if err != nil {
		return nil, err
	}
	leaf := &pki.Leaf{CertFile: file, KeyFile: file, Cert: read.Cert, Key: read.Key,
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	switch hasCert := read.Cert != nil || read.CertFile != ""; {
	case hasCert && read.Key == nil && read.KeyFile == "": // no client takes that
		return nil, fmt.Errorf("cannot use the kubeconfig %s: it has a client certificate without a key", file)
	case read.KeyFile != "" && read.Key == nil:
		leaf.KeyFile = read.KeyFile
		if leaf.Key, err = n.ReadOptional(read.KeyFile); err != nil {
			return nil, err
		}
	}
	switch {
	case read.CertFile != "":
		leaf.CertFile = read.CertFile
		if leaf.Cert, err = n.ReadOptional(read.CertFile); err != nil {
			return nil, err
		}
	case read.Token && read.Cert == nil:
		return nil, nil
	}
	if ca, err := n.ReadOptional(caFile); err == nil && ca != nil {
		leaf.CAFile, leaf.CA = caFile, ca
	}
	return leaf, nil
}

// APIAccess is how to reach, as an administrator, the API server that one of the manifests runs;
// without one, the API server that the kubeconfig names. Kubeconfig is empty when this node has
// none; one that nothing tells against is preferred.
func (n *Node) APIAccess(files []ManifestFile) op.APIAccess {
	a, _ := n.Administrators(files)
	return a
}

// Administrators is [Node.APIAccess], with what is known about each kubeconfig.
func (n *Node) Administrators(files []ManifestFile) (op.APIAccess, []Kubeconfig) {
	var a op.APIAccess
	if m, c, runs := Program(files, "kube-apiserver"); runs {
		a.Server, a.Servers, a.Name = n.apiServers(m, c)
	}
	clientCA := ClientCA(files)
	var there []Kubeconfig
	for _, file := range administrators() {
		if k := n.Kubeconfig(file, clientCA, n.Clock.Now()); k != nil {
			there = append(there, *k)
			if a.Kubeconfig == "" && k.Problem == "" {
				a.Kubeconfig = file
			}
		}
	}
	if a.Kubeconfig == "" && len(there) > 0 {
		a.Kubeconfig = there[0].Path
	}
	for _, file := range administrators() {
		if a.Kubeconfig != "" && file != a.Kubeconfig {
			a.Kubeconfigs = append(a.Kubeconfigs, file)
		}
	}
	return a, there
}

// ClientCA is the CA by which the API server knows its clients; without one, kubeadm's.
func ClientCA(files []ManifestFile) string {
	if m, c, runs := Program(files, "kube-apiserver"); runs {
		return HostFile(m, c, FlagOf(m, c, "client-ca-file"))
	}
	return path.Join(KubeadmCertificatesDir, "ca.crt")
}

// apiServers are the addresses of this node's API server, the surest first, and a name that its
// certificate is for.
func (n *Node) apiServers(m ManifestFile, container string) (first string, others []string, name string) {
	for _, at := range APIServerAddresses(m, container) {
		if first == "" {
			first = "https://" + at
			continue
		}
		others = append(others, "https://"+at)
	}
	return first, others, n.nameIn(HostFile(m, container, FlagOf(m, container, "tls-cert-file")))
}

// nameIn is a name, else an address, that the certificate in a file is for; empty when unknown.
func (n *Node) nameIn(certFile string) string {
	if certFile == "" {
		return ""
	}
	data, err := n.FS.ReadFile(certFile)
	if err != nil {
		return ""
	}
	return pki.NameIn(data)
}

// How long an API server is asked: again and again, since one question may come at a bad moment,
// such as the election of etcd's leader.
const (
	apiTries  = 5
	apiPause  = time.Second
	apiAnswer = 10 * time.Second // for all of them
)

// CheckAPIServer says whether the API server of this node serves, as it is now, and whether it lets
// the administrator do what reading back needs. fails is why it does not serve; denied is a
// [*op.DeniedError], or nil.
func (n *Node) CheckAPIServer(ctx context.Context, a op.APIAccess) (fails, denied error) {
	limited, cancel := context.WithTimeout(ctx, apiAnswer)
	defer cancel()
	for try := 1; ; try++ {
		if fails, denied = n.askAPIServer(limited, a); fails == nil || try == apiTries ||
			n.Clock.Sleep(limited, apiPause) != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return nil, nil // nobody waits for that any more
	}
	if fails != nil && limited.Err() != nil {
		fails = fmt.Errorf("it has not answered for %s: %w", apiAnswer, fails)
	}
	return fails, denied
}

// askAPIServer asks once. One that says that it is ready may still answer nothing else, and one
// that has just said so and is slow is given the benefit of the doubt.
func (n *Node) askAPIServer(ctx context.Context, a op.APIAccess) (fails, denied error) {
	if err := n.API.Ready(ctx, a); !op.Serves(err) {
		return err, nil
	}
	if a.Kubeconfig == "" {
		return nil, nil
	}
	_, err := bind.NewAPIServer(n.FS).Revision(ctx, a)
	var refused *op.DeniedError
	var answer *bind.FailedAnswerError
	switch {
	case errors.As(err, &refused):
		return nil, refused
	case errors.As(err, &answer) && answer.Code >= http.StatusInternalServerError:
		return answer, nil
	}
	return nil, nil
}

// WithoutKubeconfig warns where no administrator's kubeconfig is there for an API server that runs
// on this node: a restore could not read back what it restored.
func (n *Node) WithoutKubeconfig(files []ManifestFile) []finding.Finding {
	_, _, runs := Program(files, "kube-apiserver")
	if !runs || slices.ContainsFunc(administrators(), n.Exists) {
		return nil
	}
	return []finding.Finding{finding.New(finding.KubeconfigsMissing, KubeconfigPath("admin.conf"),
		"an API server runs on this node, but there is no administrator's kubeconfig, neither %s: `restore` and "+
			"`apiserver set` would be refused; create one with `kubeadm init phase kubeconfig admin`, or copy it from "+
			"another control plane",
		strings.Join(administrators(), " nor "))}
}

// KubeconfigsFail says why none of the administrators' kubeconfigs on this node can work, and what
// to do; empty when one may.
func (f *Facts) KubeconfigsFail() (reason, hint string) {
	for _, k := range f.Kubeconfigs {
		if k.Problem == "" {
			return "", ""
		}
		reason, hint = cmp.Or(reason, k.Problem), cmp.Or(hint, k.Fix)
	}
	if reason == "" {
		return "", ""
	}
	return reason, hint + "; or copy an administrator's kubeconfig from another control plane"
}
