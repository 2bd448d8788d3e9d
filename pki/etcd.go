package pki

import (
	"crypto/x509"
	"fmt"
	"io/fs"
	"strings"
)

// How kubeadm writes files (client-go/util/cert/io.go, util/keyutil/key.go; kubeadm,
// util/pkiutil: WriteCSR). Missing directories are created with DirMode.
const (
	CertMode fs.FileMode = 0o644
	KeyMode  fs.FileMode = 0o600
	CSRMode  fs.FileMode = 0o600
	DirMode  fs.FileMode = 0o755
)

// Spec is one certificate of kubeadm's etcd PKI (kubeadm, app/phases/certs/certlist.go). It is the
// same from Kubernetes 1.34 to 1.37.
type Spec struct {
	Name  string // in kubeadm's commands: etcd-server
	Title string // for people
	// Path below the certificates directory, without its extension: etcd/server.
	Base string
	// The name of its CA; empty: it is a CA, and signs itself.
	CA         string
	CommonName string             // empty: the node's name
	Usages     []x509.ExtKeyUsage // extended key usages; none for a CA
	Names      NameSet
}

// NameSet says which names and addresses a certificate covers.
type NameSet int

// A certificate covers nothing (a client, a CA), or this node, plus kubeadm's
// serverCertSANs or peerCertSANs.
const (
	NoNames NameSet = iota
	ServerNames
	PeerNames
)

// CertFile is the certificate's path below the certificates directory.
func (s Spec) CertFile() string { return s.Base + ".crt" }

// KeyFile is the private key's path below the certificates directory.
func (s Spec) KeyFile() string { return s.Base + ".key" }

// CSRFile is where kubeadm writes the request for an external CA, below the certificates directory.
func (s Spec) CSRFile() string { return s.Base + ".csr" }

// IsCA says whether it signs others.
func (s Spec) IsCA() bool { return s.CA == "" }

// EtcdSpecs returns the certificates of etcd and its clients, the CA first, in kubeadm's order. The
// caller may change the result.
func EtcdSpecs() []Spec {
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	// Members dial each other with their peer certificates, and etcd's own gateway dials its client
	// port with the server certificate (etcd issue 9785).
	both := func() []x509.ExtKeyUsage {
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	return []Spec{
		{Name: "etcd-ca", Title: "the CA of etcd", Base: "etcd/ca", CommonName: "etcd-ca"},
		{Name: "etcd-server", Title: "what etcd shows to its clients",
			Base: "etcd/server", CA: "etcd-ca", Usages: both(), Names: ServerNames},
		{Name: "etcd-peer", Title: "what members of etcd show to each other",
			Base: "etcd/peer", CA: "etcd-ca", Usages: both(), Names: PeerNames},
		{Name: "etcd-healthcheck-client", Title: "for clients that look after etcd",
			Base: "etcd/healthcheck-client", CA: "etcd-ca", CommonName: "kube-etcd-healthcheck-client", Usages: client},
		{Name: "apiserver-etcd-client", Title: "what the API server shows to etcd",
			Base: "apiserver-etcd-client", CA: "etcd-ca", CommonName: "kube-apiserver-etcd-client",
			Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
	}
}

// EtcdSpec finds one of EtcdSpecs by its name, or by its path without the extension (etcd/server),
// which kubeadm's messages use.
func EtcdSpec(name string) (Spec, error) {
	var names []string
	for _, s := range EtcdSpecs() {
		if name == s.Name || name == s.Base {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Spec{}, fmt.Errorf("there is no etcd certificate called %q; the names are "+
		"%s", name, strings.Join(names, ", "))
}
