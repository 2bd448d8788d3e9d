package bind

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"k8s.io/client-go/util/cert"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/pki"
)

// Certificates makes certificates from the node's files, by the node's clock.
type Certificates struct {
	fs    node.Reader
	clock node.Clock
}

// NewCertificates makes them from the node's files, by its clock.
func NewCertificates(fs node.Reader, clock node.Clock) Certificates { return Certificates{fs, clock} }

// Issue makes a key and a certificate, both PEM, and writes nothing.
func (b Certificates) Issue(_ context.Context, i op.Issuance) (certPEM, keyPEM []byte, err error) {
	spec, issuer, old, err := b.prepare(i)
	if err != nil {
		return nil, nil, err
	}
	if spec.IsCA() {
		made, err := issuer.NewCA(spec)
		return made.Cert, made.Key, err
	}
	caCert, err := b.fs.ReadFile(i.CACert)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read %s: %w", i.CACert, err)
	}
	caKey, err := b.fs.ReadFile(i.CAKey)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read %s: %w", i.CAKey, err)
	}
	ca, err := pki.ParseAuthority(i.CACert, caCert, i.CAKey, caKey)
	if err != nil {
		return nil, nil, err
	}
	var made pki.Pair
	if old != nil {
		made, err = issuer.Renew(spec, old, ca)
	} else {
		made, err = issuer.Issue(spec, ca)
	}
	return made.Cert, made.Key, err
}

// Request makes a key and a certificate signing request, both PEM, and writes nothing.
func (b Certificates) Request(_ context.Context, i op.Issuance) (csrPEM, keyPEM []byte, err error) {
	spec, issuer, old, err := b.prepare(i)
	if err != nil {
		return nil, nil, err
	}
	made, err := issuer.Request(spec, old)
	return made.CSR, made.Key, err
}

// prepare gathers what a certificate is made from.
func (b Certificates) prepare(i op.Issuance) (spec pki.Spec, issuer pki.Issuer, old *x509.Certificate, err error) {
	if spec, err = pki.EtcdSpec(i.Name); err != nil {
		return spec, issuer, nil, err
	}
	config := pki.Config{
		NodeName: i.NodeName, AdvertiseAddress: i.AdvertiseAddress, ServerCertSANs: i.SANs, PeerCertSANs: i.SANs,
		Algorithm: pki.Algorithm(i.Algorithm), Validity: i.Validity, CAValidity: i.Validity,
	}
	if i.Old == "" {
		return spec, pki.Issuer{Config: config, Now: b.clock.Now()}, nil, nil
	}
	data, err := b.fs.ReadFile(i.Old)
	if err != nil {
		return spec, issuer, nil, fmt.Errorf("cannot read %s: %w", i.Old, err)
	}
	parsed, err := cert.ParseCertsPEM(data)
	if err != nil {
		return spec, issuer, nil, fmt.Errorf("cannot read the certificate %s: %w", i.Old, err)
	}
	old = parsed[0]
	if config.Algorithm == "" { // no configuration sets it
		config.Algorithm = pki.AlgorithmOf(old)
	}
	if i.Foreign {
		return spec, pki.Issuer{Config: config, Now: b.clock.Now()}, nil, nil
	}
	// kubeadm's certificates for a node carry the node's name.
	config.NodeName = cmp.Or(old.Subject.CommonName, i.NodeName)
	// If the node is known only by a name, the old certificate's address stays.
	if net.ParseIP(config.AdvertiseAddress) == nil && len(old.IPAddresses) > 0 {
		config.AdvertiseAddress = old.IPAddresses[0].String()
	}
	return spec, pki.Issuer{Config: config, Now: b.clock.Now()}, old, nil
}

// Serves says whether the program at an address, host:port, presents the certificate in a file.
func (b Certificates) Serves(ctx context.Context, address string, access op.Access, file string) error {
	shown, err := NewDialer(b.fs).Served(ctx, address, access)
	if err != nil {
		return err
	}
	holds, err := b.fs.ReadFile(file)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", file, err)
	}
	if !pki.SameLeaf(shown, holds) {
		return errors.New("it presents another one")
	}
	return nil
}
