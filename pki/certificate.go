// Package pki inspects and makes certificates and keys in memory: bytes in, values out. It reads no
// files, and the caller supplies the time.
package pki

import (
	"crypto/x509"
	"fmt"
	"math"
	"strings"
	"time"

	"k8s.io/client-go/util/cert"
)

// Certificate describes one certificate.
type Certificate struct {
	Name      string    `json:"name"` // the caller's name for the file
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	SANs      []string  `json:"sans,omitempty"` // DNS names, then addresses
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	// Whole days, rounded down: 0 on the last day, negative once expired.
	DaysLeft    int  `json:"daysLeft"`
	NotYetValid bool `json:"notYetValid,omitempty"`
	Expired     bool `json:"expired"`
	IsCA        bool `json:"isCA"`
	// Groups are what Kubernetes takes for its user's groups.
	Groups []string `json:"-"`
}

// Inspect describes the first certificate in a PEM file: the leaf, if a chain follows.
func Inspect(name string, pem []byte, now time.Time) (Certificate, error) {
	all, err := InspectAll(name, pem, now)
	if err != nil {
		return Certificate{}, err
	}
	return all[0], nil
}

// InspectAll describes every certificate in a PEM file, in order: a CA bundle has several, each
// with its own expiry.
func InspectAll(name string, pem []byte, now time.Time) ([]Certificate, error) {
	parsed, err := cert.ParseCertsPEM(pem)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificate %s: %w", name, err)
	}
	all := make([]Certificate, 0, len(parsed))
	for _, c := range parsed {
		all = append(all, describe(name, c, now))
	}
	return all, nil
}

func describe(name string, c *x509.Certificate, now time.Time) Certificate {
	d := Certificate{
		Name:        name,
		Subject:     c.Subject.CommonName,
		Issuer:      c.Issuer.CommonName,
		SANs:        append([]string(nil), c.DNSNames...),
		NotBefore:   c.NotBefore,
		NotAfter:    c.NotAfter,
		DaysLeft:    int(math.Floor(c.NotAfter.Sub(now).Hours() / 24)),
		NotYetValid: now.Before(c.NotBefore),
		Expired:     now.After(c.NotAfter),
		IsCA:        c.IsCA,
		Groups:      append([]string(nil), c.Subject.Organization...),
	}
	for _, ip := range c.IPAddresses {
		d.SANs = append(d.SANs, ip.String())
	}
	return d
}

// SameLeaf says whether two PEM files begin with the same certificate. A file without a
// certificate matches nothing.
func SameLeaf(a, b []byte) bool {
	x, err := cert.ParseCertsPEM(a)
	if err != nil {
		return false
	}
	y, err := cert.ParseCertsPEM(b)
	return err == nil && x[0].Equal(y[0])
}

// NameIn returns a name that the first certificate of a PEM file is for, else an address; empty
// when there is none, or when it cannot be read. A wildcard is no name to dial.
func NameIn(pem []byte) string {
	parsed, err := cert.ParseCertsPEM(pem)
	if err != nil {
		return ""
	}
	for _, name := range (Names{DNS: parsed[0].DNSNames, IPs: parsed[0].IPAddresses}).Strings() {
		if !strings.Contains(name, "*") {
			return name
		}
	}
	return ""
}
