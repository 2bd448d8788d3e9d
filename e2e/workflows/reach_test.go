package workflows

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// kubeconfig writes an administrator's kubeconfig, with a certificate that ends then.
func (n *node) kubeconfig(name string, until time.Time) {
	n.t.Helper()
	ca, err := tls.LoadX509KeyPair(n.Path(pkiDir+"ca.crt"), n.Path(pkiDir+"ca.key"))
	must(n.t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(n.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: until.AddDate(-1, 0, 0), NotAfter: until,
		Subject:  pkix.Name{CommonName: "kubernetes-admin", Organization: []string{"kubeadm:cluster-admins"}},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca.Leaf, key.Public(), ca.PrivateKey)
	must(n.t, err)
	raw, err := x509.MarshalECPrivateKey(key)
	must(n.t, err)
	encode := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	authority, err := os.ReadFile(n.Path(pkiDir + "ca.crt"))
	must(n.t, err)
	n.replace("/etc/kubernetes/"+name, []byte(fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: x\n"+
		"contexts: [{name: x, context: {cluster: c, user: u}}]\n"+
		"clusters: [{name: c, cluster: {server: 'https://%s:%d', certificate-authority-data: %s}}]\n"+
		"users: [{name: u, user: {client-certificate-data: %s, client-key-data: %s}}]\n",
		n.Address, n.Ports.APIServer, base64.StdEncoding.EncodeToString(authority),
		encode("CERTIFICATE", der), encode("EC PRIVATE KEY", raw))))
}

// An administrator's kubeconfig that has ended is said before anything is stopped; with another one
// that works the restore says which, and ends.
func TestAKubeconfigThatHasEndedIsSaidBeforehand(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.change()
	before := n.state() // while the test's own client has a kubeconfig that works
	good, err := os.ReadFile(n.Path("/etc/kubernetes/admin.conf"))
	must(t, err)
	must(t, os.Remove(n.Path("/etc/kubernetes/super-admin.conf")))
	n.kubeconfig("admin.conf", time.Now().Add(-24*time.Hour))
	n.untouched(func() {
		n.want(5, []string{"restore", b.file, "--yes"},
			"no kubeconfig here can read the restored objects back: /etc/kubernetes/admin.conf expired on",
			"kubeadm certs renew admin.conf")
		n.want(6, []string{"certs", "check"}, "certificate /etc/kubernetes/admin.conf: it expired on",
			"Next: run `kubeadm certs renew admin.conf`")
		n.want(6, []string{"status"}, "certificate /etc/kubernetes/admin.conf: it expired on",
			"the API server does not accept /etc/kubernetes/admin.conf (401)")
	})
	n.done("backup") // which has no use for it
	must(t, os.Remove(n.Path("/etc/kubernetes/admin.conf")))
	for _, command := range [][]string{{"status"}, {"certs", "check"}} {
		n.want(6, command, "there is no administrator's kubeconfig", "kubeadm init phase kubeconfig admin")
	}
	n.kubeconfig("admin.conf", time.Now().Add(-24*time.Hour))

	n.kubeconfig("super-admin.conf", time.Now().Add(24*time.Hour))
	n.want(0, []string{"restore", b.file, "--dry-run"}, "read back with /etc/kubernetes/super-admin.conf",
		"cannot use /etc/kubernetes/admin.conf")
	n.done("restore", b.file, "--yes")
	n.replace("/etc/kubernetes/admin.conf", good)
	n.wantNew(b, before)
}

// The addresses and names in etcd's certificate need not include 127.0.0.1.
func TestEtcdIsReachedWhateverItsCertificateIsFor(t *testing.T) {
	n := start(t, sandbox.Options{})
	n.swap("etcd/server", "etcd/ca", func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"etcd.example"}, nil
	})
	n.done("backup")
	n.swap("etcd/server", "etcd/ca", func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = nil, []net.IP{net.ParseIP(n.Address)}
	})
	n.done("backup")
}

// What is not typed beside --endpoints stays as the manifest has it.
func TestEndpointsAloneKeepTheFilesOfTheManifest(t *testing.T) {
	n := start(t, sandbox.Options{})
	n.done("--endpoints", n.ClientURL(), "backup")
}

// What could not be looked at is never well.
func TestCertsCheckIsNotContentWithWhatItCouldNotSee(t *testing.T) {
	n := start(t, sandbox.Options{})
	n.certs(0)
	etcd := n.Path(sandbox.ManifestDir + "/etcd.yaml")
	data, err := os.ReadFile(etcd)
	must(t, err)
	must(t, os.Remove(etcd))
	n.eventually("etcd has ended", func() bool { return !strings.Contains(strings.Join(n.running(), " "), "etcd") })
	n.want(6, []string{"certs", "check"}, "runs etcd, although the API server uses https://", "so only kubeadm")
	must(t, n.StopKubelet(n.ctx))
	must(t, os.WriteFile(etcd, data, 0o600)) // and nothing starts it
	n.want(6, []string{"certs", "check"}, "connection refused: nothing listens there", "Next: start etcd")
}
