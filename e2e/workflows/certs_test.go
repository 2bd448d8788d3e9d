package workflows

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

const pkiDir = "/etc/kubernetes/pki/"

// certsReport is what programs read of `certs check -o json`.
type certsReport struct {
	Certificates, CertificateAuthorities []struct {
		Name, Path, CAName         string
		ResidualTime               int64
		ExternallyManaged, Missing bool
	}
	Served []struct {
		Program, Port, Address, Error string
		AsFile                        bool
	}
	Warnings []string
}

func (n *node) certs(code int) (r certsReport) {
	n.t.Helper()
	out := n.want(code, []string{"certs", "check", "-o", "json"})
	must(n.t, json.Unmarshal([]byte(out.Stdout), &r))
	return r
}

// swap puts another certificate in the place of one, with a key of its own: a copy that change has
// altered, signed by a CA.
func (n *node) swap(base, ca string, change func(*x509.Certificate)) {
	n.t.Helper()
	signer, err := tls.LoadX509KeyPair(n.Path(pkiDir+ca+".crt"), n.Path(pkiDir+ca+".key"))
	must(n.t, err)
	data, err := os.ReadFile(n.Path(pkiDir + base + ".crt"))
	must(n.t, err)
	block, _ := pem.Decode(data)
	template, err := x509.ParseCertificate(block.Bytes)
	must(n.t, err)
	template.SerialNumber = new(big.Int).Add(template.SerialNumber, big.NewInt(1))
	change(template)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(n.t, err)
	der, err := x509.CreateCertificate(rand.Reader, template, signer.Leaf, key.Public(), signer.PrivateKey)
	must(n.t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	must(n.t, err)
	n.replace(pkiDir+base+".key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}))
	n.replace(pkiDir+base+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// replace gives a file other contents.
func (n *node) replace(host string, data []byte) {
	n.t.Helper()
	must(n.t, os.WriteFile(n.Path(host), data, 0o600))
}

func TestCertsCheckShowsTheFilesAndWhatIsServed(t *testing.T) {
	n := start(t, sandbox.Options{})
	n.untouched(func() {
		n.want(0, []string{"certs", "check"},
			"CERTIFICATE               EXPIRES", "RESIDUAL TIME  CERTIFICATE AUTHORITY  EXTERNALLY MANAGED",
			"364d           etcd-ca                no",
			"CERTIFICATE AUTHORITY  EXPIRES", "etcd, client",
			"etcd, peer", "kube-apiserver, secure", "Nothing to do.")
		n.want(0, []string{"certs", "check-expiration"})
	})
	r := n.certs(0)
	var names []string
	for _, c := range r.Certificates {
		names = append(names, c.Name)
		if c.ResidualTime < 364*24*3600 || c.ExternallyManaged || c.Missing || c.CAName == "" {
			t.Errorf("got %+v", c)
		}
	}
	want := []string{"admin.conf", "apiserver", "apiserver-etcd-client", "apiserver-kubelet-client",
		"controller-manager.conf",
		"etcd-healthcheck-client", "etcd-peer", "etcd-server", "front-proxy-client",
		"kubelet.conf", "scheduler.conf", "super-admin.conf"}
	if !slices.Equal(names, want) || len(r.CertificateAuthorities) != 3 {
		t.Errorf("the certificates are %q, and %d CAs", names, len(r.CertificateAuthorities))
	}
	if len(r.Served) != 4 { // etcd's client port has two addresses
		t.Errorf("served are %+v", r.Served)
	}
	for _, s := range r.Served {
		if !s.AsFile || s.Error != "" {
			t.Errorf("got %+v", s)
		}
	}
}

func TestCertsCheckSaysWhatAProcessStillHolds(t *testing.T) {
	n := start(t, sandbox.Options{})
	// etcd reads its files anew for each connection.
	n.swap("etcd/peer", "etcd/ca", func(*x509.Certificate) {})
	n.swap("apiserver", "ca", func(*x509.Certificate) {})
	n.want(6, []string{"certs", "check"}, "no\n", "Next: restart kube-apiserver")
	r := n.certs(6)
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "kube-apiserver presents a different certificate at "+
		"") ||
		!strings.Contains(r.Warnings[0], "restart needed") {
		t.Errorf("got %q", r.Warnings)
	}
	for _, s := range r.Served {
		if s.AsFile != (s.Program == "etcd") {
			t.Errorf("got %+v", s)
		}
	}
	must(t, n.Kill(n.ctx, "kube-apiserver"))
	n.ready()
	n.certs(0)
}

func TestCertsCheckSaysWhatIsWrong(t *testing.T) {
	n := start(t, sandbox.Options{})
	for _, tt := range []struct {
		name  string
		spoil func()
		code  int
		says  []string
	}{
		{"few days left", func() { n.swap("etcd/server", "etcd/ca", in(10*24*time.Hour)) },
			6, []string{"pki/etcd/server.crt: it expires in 9 days", "Next: run `etcdpod certs renew`"}},
		{"expired", func() { n.swap("etcd/server", "etcd/ca", in(-time.Hour)) },
			6, []string{"pki/etcd/server.crt: it expired on"}},
		{"a key of another", func() {
			n.copyFile("etcd/healthcheck-client.key", "apiserver-etcd-client.key")
		}, 6, []string{"pki/apiserver-etcd-client.key is not the key for /etc/kubernetes/pki/apiserver-etcd-client.crt",
			"Next: put back the file that matches the other"}},
		{"another CA signed it", func() {
			n.swap("etcd/healthcheck-client", "front-proxy-ca", func(*x509.Certificate) {})
		}, 6, []string{"pki/etcd/healthcheck-client.crt is not signed by the CA in /etc/kubernetes/pki/etcd/ca.crt"}},
		{"not for the node's address", func() {
			n.swap("etcd/peer", "etcd/ca", func(c *x509.Certificate) { c.IPAddresses = c.IPAddresses[1:] })
		}, 6, []string{"pki/etcd/peer.crt does not cover " + n.Address}},
		{"not for servers", func() {
			n.swap("etcd/peer", "etcd/ca", func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			})
		}, 6, []string{"pki/etcd/peer.crt cannot be used for servers"}},
		{"no certificate", func() { n.replace(pkiDir+"etcd/peer.crt", []byte("hello")) },
			6, []string{"cannot read the certificate /etc/kubernetes/pki/etcd/peer.crt"}},
		{"a CA with another's key", func() { n.copyFile("ca.key", "etcd/ca.key") },
			6, []string{"pki/etcd/ca.key is not the key for /etc/kubernetes/pki/etcd/ca.crt"}},
		{"one is missing", func() { must(t, os.Remove(n.Path(pkiDir+"etcd/server.crt"))) },
			6, []string{"!MISSING! etcd-server", "pki/etcd/server.crt is missing"}},
		{"an external CA, and few days left", func() {
			n.swap("etcd/server", "etcd/ca", in(10*24*time.Hour))
			must(t, os.Remove(n.Path(pkiDir+"etcd/ca.key")))
		}, 6, []string{"Next: ask the external CA: `etcdpod certs generate-csr` creates keys and requests, `etcdpod " +
			"certs renew --from DIR` installs the signed certificates"}},
		{"few days left of the API server's", func() { n.swap("apiserver", "ca", in(10*24*time.Hour)) },
			6, []string{"Next: run `kubeadm certs renew apiserver`"}},
		{"the API server's is not for its address", func() {
			n.swap("apiserver", "ca", func(c *x509.Certificate) { c.IPAddresses = nil })
		}, 6, []string{"pki/apiserver.crt does not cover ", "create them again: `kubeadm init phase certs apiserver`"}},
		{"an external CA", func() { must(t, os.Remove(n.Path(pkiDir+"etcd/ca.key"))) },
			0, []string{"etcd-ca                yes"}},
		{"health checks go without", func() {
			must(t, os.Remove(n.Path(pkiDir+"etcd/healthcheck-client.crt")))
			must(t, os.Remove(n.Path(pkiDir+"etcd/healthcheck-client.key")))
		}, 0, []string{"!MISSING! etcd-healthcheck-client"}},
	} {
		saved := n.savePKI()
		tt.spoil()
		out := n.want(tt.code, []string{"certs", "check"}, tt.says...)
		if strings.Contains(out.Stdout+out.Stderr, "PRIVATE KEY") {
			t.Errorf("%s: a key is shown", tt.name)
		}
		if unusable := tt.name == "no certificate" || tt.name == "one is missing"; unusable &&
			strings.Contains(out.Stdout, "restart needed") {
			t.Errorf("%s: etcd is to be restarted, and could not start:\n%s", tt.name, out.Stdout)
		}
		n.restorePKI(saved)
	}
	n.certs(0)
}

func TestCertsCheckWorksWhenEverythingIsDown(t *testing.T) {
	n := create(t, sandbox.Options{})
	n.want(6, []string{"certs", "check"}, "etcd-server", "nothing listens there")
	must(t, os.Remove(n.Path("/etc/kubernetes/manifests/etcd.yaml")))
	must(t, os.Remove(n.Path(pkiDir+"etcd/server.crt")))
	must(t, os.Remove(n.Path(pkiDir+"etcd/server.key")))
	n.want(6, []string{"certs", "check"}, "no manifest in /etc/kubernetes/manifests runs etcd, although the API "+
		"server uses https://", "!MISSING! etcd-server", "etcd/server.crt is missing", "etcd-peer")
	n.want(6, []string{"status"}, "no manifest in /etc/kubernetes/manifests runs etcd, although the API server uses",
		"certificate /etc/kubernetes/pki/etcd/server.crt: it is missing")
	must(t, os.RemoveAll(n.Path("/etc/kubernetes/manifests")))
	n.want(6, []string{"certs", "check"}, "etcd-server", "apiserver-etcd-client", "etcd-ca",
		"although /etc/kubernetes/pki/etcd/peer.crt exists", "etcd/server.crt is missing")
	must(t, os.RemoveAll(n.Path("/etc/kubernetes/pki")))
	n.want(6, []string{"certs", "check"}, "no manifest in /etc/kubernetes/manifests names a certificate")
}

// in gives a certificate that much time from now.
func in(left time.Duration) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(left-365*24*time.Hour), time.Now().Add(left)
	}
}

func (n *node) copyFile(from, to string) {
	n.t.Helper()
	data, err := os.ReadFile(n.Path(pkiDir + from))
	must(n.t, err)
	n.replace(pkiDir+to, data)
}

// savePKI returns the contents of all files of the PKI by host path.
func (n *node) savePKI() map[string][]byte {
	n.t.Helper()
	saved := map[string][]byte{}
	for _, dir := range []string{"", "etcd/"} {
		names, err := filepath.Glob(n.Path(pkiDir+dir) + "/*.*")
		must(n.t, err)
		for _, name := range names {
			data, err := os.ReadFile(name)
			must(n.t, err)
			saved[pkiDir+dir+filepath.Base(name)] = data
		}
	}
	return saved
}

func (n *node) restorePKI(saved map[string][]byte) {
	n.t.Helper()
	for host, data := range saved {
		n.replace(host, data)
	}
}
