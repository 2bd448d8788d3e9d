package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind says what is wrong with a certificate.
type Kind int

// What can be wrong.
const (
	Missing     Kind = iota // the certificate or its key is not there
	Unreadable              // the certificate or its key
	WrongKey                // certificate and key do not belong together
	WrongCA                 // not signed by the CA, or that is not a CA
	WrongUsage              // wrong extended key usage
	WrongNames              // some requested names or addresses are missing
	NotYetValid             // or the node's clock is behind
	Expired                 // or the node's clock is ahead
)

// Problem is one thing that is wrong with a certificate, and how to fix it.
type Problem struct {
	Kind Kind
	What string // a sentence that names the file
	Fix  string
}

// Error says what is wrong.
func (p *Problem) Error() string { return p.What }

// Hint says what to do.
func (p *Problem) Hint() string { return p.Fix }

// Files are the files found, by path below the certificates directory. A missing file has no entry.
type Files map[string][]byte

// Leaf is a certificate in use, with what it is checked against. The names of the
// files are for messages.
type Leaf struct {
	CertFile, KeyFile, CAFile string
	// PEM; nil: the file is missing. A nil CA or Key with an empty name is not checked.
	Cert, Key, CA []byte
	Usages        []x509.ExtKeyUsage // that it must allow
	Names         Names              // that it must cover
}

const (
	fixRenew = "renew it: `etcdpod certs renew` (an external CA needs `etcdpod certs generate-csr`)"
	fixPair  = "put back the file that matches the other, or move both out of the way and create new ones"
	fixCA    = "put back a CA certificate and key that belong together: other control planes have the same pair"
	fixClock = "check this node's clock; if it is correct, renew the certificate: `etcdpod certs renew`"
)

// NewCA is what to do about a CA that expires: no certificate that it signs helps then.
const NewCA = "a new CA is needed, which etcdpod cannot make yet: follow Kubernetes' manual rotation of CA " +
	"certificates (https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/)"

// Check returns what is wrong with a certificate in use at that time; nothing if all is well.
func (l Leaf) Check(now time.Time) []*Problem {
	chain, problems := l.read()
	if chain == nil {
		return problems
	}
	leaf := chain[0]
	problems = append(problems, period(l.CertFile, leaf, now)...)
	if l.CA != nil {
		problems = append(problems, l.checkCA(chain)...)
	}
	for _, u := range l.Usages {
		if !slices.Contains(leaf.ExtKeyUsage, u) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
			problems = append(problems, &Problem{
				WrongUsage, fmt.Sprintf("%s cannot be used for %s: its extended key usage does not include that",
					l.CertFile, usageName(u)), fixRenew,
			})
		}
	}
	if missing := uncovered(leaf, l.Names); len(missing) > 0 {
		problems = append(problems, &Problem{
			WrongNames, fmt.Sprintf("%s does not cover %s: it covers %s",
				l.CertFile, strings.Join(missing, ", "), namesOf(leaf)), "correct the configuration, or renew the " +
				"certificate, which then takes its names from it: `etcdpod certs renew`",
		})
	}
	return problems
}

// read parses the certificate and the intermediates after it, and checks it against its key.
func (l Leaf) read() ([]*x509.Certificate, []*Problem) {
	if l.Cert == nil {
		return nil, []*Problem{absent(l.CertFile, l.KeyFile, l.Key != nil)}
	}
	chain, err := parseCerts(l.CertFile, l.Cert)
	if err != nil {
		return nil, []*Problem{{Unreadable, err.Error(), fixPair}}
	}
	if l.KeyFile == "" && l.Key == nil {
		return chain, nil
	}
	return chain, checkKey(l.CertFile, chain[0], l.KeyFile, l.Key)
}

func absent(file, other string, half bool) *Problem {
	if half {
		return &Problem{Missing, fmt.Sprintf("%s is missing, but %s exists", file, other), fixPair}
	}
	return &Problem{Missing, fmt.Sprintf("%s is missing", file),
		"create it: `etcdpod init phase certs` (an external CA needs `etcdpod certs generate-csr --config FILE`)"}
}

func checkKey(certFile string, c *x509.Certificate, keyFile string, key []byte) []*Problem {
	if key == nil {
		return []*Problem{absent(keyFile, certFile, true)}
	}
	k, err := parseKey(keyFile, key)
	switch {
	case err != nil:
		return []*Problem{{Unreadable, err.Error(), fixPair}}
	case !matches(c.PublicKey, k):
		return []*Problem{{WrongKey, fmt.Sprintf("%s is not the key for %s", keyFile, certFile), fixPair}}
	}
	return nil
}

func period(file string, c *x509.Certificate, now time.Time) []*Problem {
	switch {
	case now.Before(c.NotBefore):
		return []*Problem{
			{NotYetValid, fmt.Sprintf("%s is not valid before %s; this node's clock says %s",
				file, stamp(c.NotBefore), stamp(now)), fixClock},
		}
	case now.After(c.NotAfter):
		return []*Problem{
			{Expired, fmt.Sprintf("%s expired on %s; this node's clock says %s", file, stamp(c.NotAfter), stamp(now)),
				fixRenew},
		}
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// checkCA follows the chain to one of the CAs. Other checks report on times: an expired
// certificate was still signed.
func (l Leaf) checkCA(chain []*x509.Certificate) []*Problem {
	roots, err := parseCerts(l.CAFile, l.CA)
	if err != nil {
		return []*Problem{{Unreadable, err.Error(), fixCA}}
	}
	if err := signed(chain, roots); err != nil {
		return []*Problem{
			{WrongCA, fmt.Sprintf("%s is not signed by the CA in %s: %v", l.CertFile, l.CAFile, err), "put back the " +
				"CA that signed it, or move the certificate and its key out of the way and create new ones"},
		}
	}
	return nil
}

// signed looks for an instant at which the whole chain is valid: if there is one, some
// certificate's start or end is such an instant.
func signed(chain, roots []*x509.Certificate) error {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range roots {
		o.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	var first error
	for _, c := range slices.Concat(chain, roots) {
		for _, at := range []time.Time{c.NotBefore, c.NotAfter} {
			o.CurrentTime = at
			_, err := chain[0].Verify(o)
			if err == nil {
				return nil
			}
			var invalid x509.CertificateInvalidError
			if first == nil && !(errors.As(err, &invalid) && invalid.Reason == x509.Expired) {
				first = err
			}
		}
	}
	if first == nil {
		return errors.New("they are never valid at the same time")
	}
	return first
}

// uncovered follows kubeadm's check of existing certificates
// (app/phases/certs/certs.go: validateCertificateWithConfig).
func uncovered(c *x509.Certificate, want Names) []string {
	return slices.DeleteFunc(want.Strings(), func(name string) bool { return c.VerifyHostname(name) == nil })
}

// Uncovered returns the hosts, names or addresses, that a certificate does not cover: the existing
// one or, if that is nil, the one that would be made.
func (c Config) Uncovered(s Spec, there []byte, hosts []string) ([]string, error) {
	var leaf *x509.Certificate
	if there != nil {
		chain, err := parseCerts(s.CertFile(), there)
		if err != nil {
			return nil, err
		}
		leaf = chain[0]
	} else {
		names, err := c.Names(s)
		if err != nil {
			return nil, err
		}
		leaf = &x509.Certificate{DNSNames: names.DNS, IPAddresses: names.IPs}
	}
	return slices.DeleteFunc(slices.Clone(hosts),
		func(host string) bool { return leaf.VerifyHostname(host) == nil }), nil
}

func namesOf(c *x509.Certificate) string {
	names := Names{DNS: c.DNSNames, IPs: c.IPAddresses}.Strings()
	if len(names) == 0 {
		return "no name at all"
	}
	return strings.Join(names, ", ")
}

func usageName(u x509.ExtKeyUsage) string {
	if u == x509.ExtKeyUsageServerAuth {
		return "servers"
	}
	return "clients"
}

// CheckCA returns what is wrong with a CA at that time. A nil key means an
// external CA, and is fine.
func CheckCA(certFile string, certPEM []byte, keyFile string, keyPEM []byte, now time.Time) []*Problem {
	if certPEM == nil {
		p := absent(certFile, keyFile, keyPEM != nil)
		p.Fix = fixCA
		return []*Problem{p}
	}
	certs, err := parseCerts(certFile, certPEM)
	if err != nil {
		return []*Problem{{Unreadable, err.Error(), fixCA}}
	}
	ca := judged(certs, keyPEM, now)
	if !ca.IsCA {
		return []*Problem{{WrongCA, fmt.Sprintf("%s is not a CA", certFile), fixCA}}
	}
	problems := period(certFile, ca, now)
	for _, p := range problems {
		switch p.Kind {
		case Expired:
			p.Fix = NewCA
		case NotYetValid:
			p.Fix = "check this node's clock; if it is correct, " + fixCA
		}
	}
	if keyPEM != nil {
		wrong := checkKey(certFile, ca, keyFile, keyPEM)
		for _, p := range wrong {
			p.Fix = fixCA
		}
		problems = append(problems, wrong...)
	}
	return problems
}

// judged is the CA that counts of several in one file: the one that signs; where the key is
// elsewhere, one that is valid now.
func judged(certs []*x509.Certificate, keyPEM []byte, now time.Time) *x509.Certificate {
	if keyPEM != nil {
		key, err := parseKey("", keyPEM)
		if err != nil {
			return certs[0] // the check of the key says so
		}
		return signing(certs, key)
	}
	for _, c := range certs {
		if c.IsCA && period("", c, now) == nil {
			return c
		}
	}
	return certs[0]
}

// signing is the CA that a key belongs to, of several in one file: while a CA is exchanged, its
// file holds the old one and the new one, in either order. Without any, it is the first.
func signing(certs []*x509.Certificate, key crypto.Signer) *x509.Certificate {
	for _, c := range certs {
		if c.IsCA && matches(c.PublicKey, key) {
			return c
		}
	}
	return certs[0]
}

// Judged is the certificate, as PEM, that CheckCA judges of a CA's file; nil when it cannot be
// read.
func Judged(certPEM, keyPEM []byte, now time.Time) []byte {
	certs, err := parseCerts("", certPEM)
	if err != nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: judged(certs, keyPEM, now).Raw})
}
