//go:build e2e

package bootstrap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// externalCA is the section of kubeadm.md on one.
const externalCA = "With an external etcd CA"

func TestAnExternalCASignsForTheFirstControlPlane(t *testing.T) {
	t.Parallel() // most of the time goes to waiting
	k := machines(t, rig.Options{Name: "external", Machines: []string{"cp1"}})
	p, whole := follow(t, "kubeadm.md", externalCA), follow(t, "kubeadm.md", "")
	cp1 := k.node("cp1")
	ca := k.departmentsCA()
	k.write(cp1, pkiDir+"etcd/ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Leaf.Raw})))

	k.writes(whole, cp1, config, "cp1")
	k.types(p, cp1, k.starting(p, "etcdpod certs generate-csr"), 0)
	for _, base := range []string{"etcd/server", "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client"} {
		k.sign(cp1, "/etc/kubernetes/csr/"+base, ca)
	}
	k.types(p, cp1, k.starting(p, "cp -r"), 0)
	if out := k.types(p, cp1, k.starting(p, "etcdpod init phase certs"), 0); !strings.Contains(out, "Nothing to do") {
		k.Errorf("etcdpod init phase certs says:\n%s", out)
	}
	k.types(p, cp1, k.starting(p, "rm -r"), 0)
	k.types(whole, cp1, k.starting(whole, "etcdpod init phase render-etcd"), 0)
	made := k.files(cp1, pkiDir+"etcd", pkiDir+"apiserver-etcd-client.*")
	k.types(whole, cp1, k.starting(whole, "kubeadm init --config"), 0)
	if now := k.files(cp1, pkiDir+"etcd", pkiDir+"apiserver-etcd-client.*"); now != made {
		k.Errorf("kubeadm has changed what was signed:\n%s\nit was\n%s", now, made)
	}
	k.working(cp1)
	k.wantMembers(cp1)
	if out := k.shell(cp1, "etcdpod certs check"); !regexp.MustCompile(`(?m)^etcd-ca .* yes$`).MatchString(out) {
		k.Errorf("etcdpod certs check says:\n%s", out)
	}
	k.ends(p)
}

// departmentsCA is a CA whose key never gets onto a machine.
func (k *cluster) departmentsCA() tls.Certificate {
	k.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.Must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the department's CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour * 3650),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	k.Must(err)
	leaf, err := x509.ParseCertificate(der)
	k.Must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// sign has the CA sign a request, with all that it asks for.
func (k *cluster) sign(n *rig.Node, at string, ca tls.Certificate) {
	k.Helper()
	text, err := n.ReadFile(at + ".csr")
	k.Must(err)
	block, _ := pem.Decode(text)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	k.Must(err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: csr.Subject,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(200 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtraExtensions: csr.Extensions,
	}, ca.Leaf, csr.PublicKey, ca.PrivateKey)
	k.Must(err)
	k.write(n, at+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}
