package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"time"

	"k8s.io/client-go/util/cert"
)

// Issuer makes certificates as kubeadm does: from the same configuration they are the same in every
// field except serial number, keys and times.
type Issuer struct {
	Config Config
	Now    time.Time
	Random io.Reader                              // for serial numbers; nil: the system's
	NewKey func(Algorithm) (crypto.Signer, error) // nil is NewKey
}

// Pair is a certificate and its private key, as in their files.
type Pair struct {
	Cert []byte
	Key  KeyPEM
}

// Request asks an external CA for a certificate: CSR goes there, the private key stays.
type Request struct {
	CSR []byte
	Key KeyPEM
}

// Authority can sign.
type Authority struct {
	Cert *x509.Certificate
	key  crypto.Signer
}

// ParseAuthority reads a CA's certificate (of several in the file, the one that the key belongs to)
// and its key. The names of the files are for errors.
func ParseAuthority(certFile string, certPEM []byte, keyFile string, keyPEM []byte) (Authority, error) {
	certs, err := parseCerts(certFile, certPEM)
	if err != nil {
		return Authority{}, err
	}
	key, err := parseKey(keyFile, keyPEM)
	if err != nil {
		return Authority{}, err
	}
	ca := Authority{Cert: signing(certs, key), key: key}
	switch {
	case !ca.Cert.IsCA:
		return Authority{}, fmt.Errorf("cannot sign with %s: it is not a CA", certFile)
	case !matches(ca.Cert.PublicKey, key):
		return Authority{}, fmt.Errorf("cannot sign with %s: %s is not its key", certFile, keyFile)
	}
	return ca, nil
}

func parseCerts(file string, data []byte) ([]*x509.Certificate, error) {
	certs, err := cert.ParseCertsPEM(data)
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificate %s: %w", file, err)
	}
	return certs, nil
}

// NewCA makes a self-signed CA.
func (i Issuer) NewCA(s Spec) (Pair, error) {
	template, err := i.template(s)
	if err != nil {
		return Pair{}, err
	}
	template.KeyUsage |= x509.KeyUsageCertSign
	template.IsCA = true
	// For clients that look for a name there, as in kubeadm's.
	template.DNSNames = []string{template.Subject.CommonName}
	key, err := i.newKey()
	if err != nil {
		return Pair{}, err
	}
	return i.sign(template, template, key, key)
}

// Issue makes a new key and the certificate for it.
func (i Issuer) Issue(s Spec, ca Authority) (Pair, error) {
	template, err := i.template(s)
	if err != nil {
		return Pair{}, err
	}
	key, err := i.newKey()
	if err != nil {
		return Pair{}, err
	}
	return i.sign(template, ca.Cert, key, ca.key)
}

// Renew makes a new key, and a certificate with the old one's subject, as `kubeadm certs renew`
// does. It covers all names of the old one, which may be in use, and those in the configuration.
func (i Issuer) Renew(s Spec, old *x509.Certificate, ca Authority) (Pair, error) {
	template, err := i.renewal(s, old)
	if err != nil {
		return Pair{}, err
	}
	key, err := i.newKey()
	if err != nil {
		return Pair{}, err
	}
	return i.sign(template, ca.Cert, key, ca.key)
}

// Request makes a new key, and requests the certificate that Issue would make or, if there is an
// old one, Renew. kubeadm leaves the extended key usage out of its requests; etcd and the API
// server refuse certificates without it.
func (i Issuer) Request(s Spec, old *x509.Certificate) (Request, error) {
	template, err := i.template(s)
	if old != nil {
		template, err = i.renewal(s, old)
	}
	if err != nil {
		return Request{}, err
	}
	usage, err := extKeyUsage(template.ExtKeyUsage)
	if err != nil {
		return Request{}, err
	}
	key, err := i.newKey()
	if err != nil {
		return Request{}, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: template.Subject, DNSNames: template.DNSNames,
		IPAddresses: template.IPAddresses, ExtraExtensions: []pkix.Extension{usage},
	}, key)
	if err != nil {
		return Request{}, fmt.Errorf("cannot make the request for %s: %w", s.Name, err)
	}
	text, err := encodeKey(key)
	return Request{CSR: pem.EncodeToMemory(&pem.Block{Type: cert.CertificateRequestBlockType, Bytes: der}),
		Key: text}, err
}

// extKeyUsage is the extension of RFC 5280, 4.2.1.12, for requests: crypto/x509 writes it
// only into certificates.
func extKeyUsage(usages []x509.ExtKeyUsage) (pkix.Extension, error) {
	var ids []asn1.ObjectIdentifier
	for _, u := range usages {
		switch u {
		case x509.ExtKeyUsageServerAuth:
			ids = append(ids, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1})
		case x509.ExtKeyUsageClientAuth:
			ids = append(ids, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2})
		default:
			return pkix.Extension{}, fmt.Errorf(
				"cannot request a certificate with the extended key usage %d: neither serverAuth nor clientAuth", u)
		}
	}
	if len(ids) == 0 {
		return pkix.Extension{}, errors.New("cannot request a certificate without an extended key usage")
	}
	value, err := asn1.Marshal(ids)
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: value}, err
}

// template follows GetConfig in kubeadm's app/phases/certs/certlist.go, and NewSignedCert and
// NewSelfSignedCACert in util/pkiutil.
func (i Issuer) template(s Spec) (*x509.Certificate, error) {
	name, err := i.Config.commonName(s)
	if err != nil {
		return nil, err
	}
	names, err := i.Config.Names(s)
	if err != nil {
		return nil, fmt.Errorf("cannot make the certificate %s: %w", s.Name, err)
	}
	validity, err := i.Config.validity(s)
	if err != nil {
		return nil, err
	}
	serial, err := i.serial()
	if err != nil {
		return nil, fmt.Errorf("cannot make the certificate %s: %w", s.Name, err)
	}
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              names.DNS,
		IPAddresses:           names.IPs,
		SerialNumber:          serial,
		NotBefore:             i.Now.UTC().Add(-Backdate),
		NotAfter:              i.Now.UTC().Add(validity),
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           s.Usages,
		BasicConstraintsValid: true,
	}, nil
}

// renewal follows certToConfig in kubeadm's app/phases/certs/renewal/manager.go.
func (i Issuer) renewal(s Spec, old *x509.Certificate) (*x509.Certificate, error) {
	template, err := i.template(s)
	if err != nil {
		return nil, err
	}
	template.Subject = pkix.Name{CommonName: old.Subject.CommonName, Organization: old.Subject.Organization}
	names := Names{DNS: slices.Concat(old.DNSNames, template.DNSNames),
		IPs: slices.Concat(old.IPAddresses, template.IPAddresses)}.unique()
	template.DNSNames, template.IPAddresses = names.DNS, names.IPs
	return template, nil
}

// serial returns a number between 1 and 2^63-2.
func (i Issuer) serial() (*big.Int, error) {
	random := i.Random
	if random == nil {
		random = rand.Reader
	}
	n, err := rand.Int(random, big.NewInt(math.MaxInt64-1))
	if err != nil {
		return nil, err
	}
	return n.Add(n, big.NewInt(1)), nil
}

func (i Issuer) newKey() (crypto.Signer, error) {
	if i.NewKey != nil {
		return i.NewKey(i.Config.Algorithm)
	}
	return NewKey(i.Config.Algorithm)
}

func (i Issuer) sign(template, parent *x509.Certificate, key, parentKey crypto.Signer) (Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return Pair{}, fmt.Errorf("cannot make the certificate of %s: %w", template.Subject.CommonName, err)
	}
	text, err := encodeKey(key)
	return Pair{Cert: pem.EncodeToMemory(&pem.Block{Type: cert.CertificateBlockType, Bytes: der}), Key: text}, err
}
