package sandbox

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// pkiDir is the host path of the certificates.
const pkiDir = "/etc/kubernetes/pki"

// pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (p pair) certPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
}

func (p pair) keyPEM() ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(p.key)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
}

// leaf describes a certificate to issue.
type leaf struct {
	path         string // below the PKI directory, without .crt; not written if empty
	cn           string
	organization string
	server       bool // for servers
	client       bool // for clients
	sans         []string
}

// issue makes a certificate with kubeadm's validity, signed by ca or, if that is
// nil, a self-signed CA.
func issue(ca *pair, l leaf) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 62))
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: l.cn},
		NotBefore: now.Add(-5 * time.Minute), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, BasicConstraintsValid: true,
	}
	if l.organization != "" {
		template.Subject.Organization = []string{l.organization}
	}
	if l.server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if l.client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, san := range l.sans {
		if ip := net.ParseIP(san); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, san)
		}
	}
	signer := ca
	if ca == nil {
		template.IsCA, template.NotAfter, template.DNSNames = true, now.AddDate(10, 0, 0), []string{l.cn}
		template.KeyUsage |= x509.KeyUsageCertSign
		signer = &pair{cert: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, key.Public(), signer.key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &pair{cert: cert, key: key}, err
}

// writePKI writes what kubeadm init writes below /etc/kubernetes/pki, and the kubeconfigs.
func (s *Sandbox) writePKI() error {
	etcdSANs := []string{s.Node, "localhost", s.Address, "127.0.0.1", "::1"}
	apiSANs := []string{s.Node, "kubernetes", "kubernetes.default",
		"kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "10.96.0.1", s.Address}
	clusterCA, err := s.writeCA("ca", "kubernetes",
		leaf{path: "apiserver", cn: "kube-apiserver", server: true, sans: apiSANs},
		leaf{path: "apiserver-kubelet-client", cn: "kube-apiserver-kubelet-client",
			organization: "kubeadm:cluster-admins", client: true})
	if err != nil {
		return err
	}
	if _, err := s.writeCA("front-proxy-ca", "front-proxy-ca",
		leaf{path: "front-proxy-client", cn: "front-proxy-client", client: true}); err != nil {
		return err
	}
	if _, err := s.writeCA("etcd/ca", "etcd-ca",
		leaf{path: "etcd/server", cn: s.Node, server: true, client: true, sans: etcdSANs},
		leaf{path: "etcd/peer", cn: s.Node, server: true, client: true, sans: etcdSANs},
		leaf{path: "etcd/healthcheck-client", cn: "kube-etcd-healthcheck-client", client: true},
		leaf{path: "apiserver-etcd-client", cn: "kube-apiserver-etcd-client", client: true}); err != nil {
		return err
	}
	if err := s.writeServiceAccountKey(); err != nil {
		return err
	}
	return s.writeKubeconfigs(clusterCA)
}

// writeCA writes a CA, its own or that of the cluster it joins, and the leaves that it signs;
// certificates 0644, keys 0600.
func (s *Sandbox) writeCA(path, cn string, leaves ...leaf) (*pair, error) {
	ca, err := s.ca(path, cn)
	if err != nil {
		return nil, err
	}
	if err := s.writePair(path, ca); err != nil {
		return nil, err
	}
	for _, l := range leaves {
		issued, err := issue(ca, l)
		if err != nil {
			return nil, err
		}
		if err := s.writePair(l.path, issued); err != nil {
			return nil, err
		}
	}
	return ca, nil
}

func (s *Sandbox) ca(path, cn string) (*pair, error) {
	if s.options.Join == nil {
		return issue(nil, leaf{cn: cn})
	}
	theirs, err := tls.LoadX509KeyPair(s.options.Join.Path(filepath.Join(pkiDir, path+".crt")),
		s.options.Join.Path(filepath.Join(pkiDir, path+".key")))
	if err != nil {
		return nil, err
	}
	return &pair{cert: theirs.Leaf, key: theirs.PrivateKey.(*ecdsa.PrivateKey)}, nil
}

func (s *Sandbox) writePair(path string, p *pair) error {
	key, err := p.keyPEM()
	if err != nil {
		return err
	}
	if err := s.write(filepath.Join(pkiDir, path+".key"), key, 0o600); err != nil {
		return err
	}
	return s.write(filepath.Join(pkiDir, path+".crt"), p.certPEM(), 0o644)
}

func (s *Sandbox) writeServiceAccountKey() error {
	if s.options.Join != nil {
		return s.copyServiceAccountKey()
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := pair{key: key}.keyPEM()
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := s.write(pkiDir+"/sa.key", private, 0o600); err != nil {
		return err
	}
	return s.write(pkiDir+"/sa.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600)
}

func (s *Sandbox) copyServiceAccountKey() error {
	for _, name := range []string{"/sa.key", "/sa.pub"} {
		data, err := os.ReadFile(s.options.Join.Path(pkiDir + name))
		if err != nil {
			return err
		}
		if err := s.write(pkiDir+name, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// write writes a file at a host path, and the directories above it, unless it
// already holds these bytes.
func (s *Sandbox) write(host string, data []byte, mode fs.FileMode) error {
	path := s.Path(host)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
