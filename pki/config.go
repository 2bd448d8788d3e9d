package pki

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	netutils "k8s.io/utils/net"
)

// kubeadm's defaults, and how far it backdates certificates to allow for clock skew
// (kubeadm, constants/constants.go).
const (
	DefaultValidity   = 365 * 24 * time.Hour
	DefaultCAValidity = 10 * DefaultValidity
	Backdate          = 5 * time.Minute
)

// Config is the part of kubeadm's configuration that certificates need.
type Config struct {
	NodeName         string   // nodeRegistration.name
	AdvertiseAddress string   // localAPIEndpoint.advertiseAddress
	ServerCertSANs   []string // etcd.local.serverCertSANs
	PeerCertSANs     []string // etcd.local.peerCertSANs
	Algorithm        Algorithm
	Validity         time.Duration // certificateValidityPeriod; 0 is DefaultValidity
	CAValidity       time.Duration // caCertificateValidityPeriod; 0 is DefaultCAValidity
}

// Names are what a certificate covers (subject alternative names).
type Names struct {
	DNS []string
	IPs []net.IP
}

// Strings returns the DNS names, then the addresses.
func (n Names) Strings() []string {
	all := slices.Clone(n.DNS)
	for _, ip := range n.IPs {
		all = append(all, ip.String())
	}
	return all
}

// unique sorts the DNS names and keeps the order of the addresses, and removes duplicates (kubeadm,
// util/pkiutil: RemoveDuplicateAltNames).
func (n Names) unique() Names {
	dns := slices.Clone(n.DNS)
	slices.Sort(dns)
	var ips []net.IP
	for _, ip := range n.IPs {
		if !slices.ContainsFunc(ips, ip.Equal) {
			ips = append(ips, ip)
		}
	}
	return Names{DNS: slices.Compact(dns), IPs: ips}
}

// Names returns the names that kubeadm would put into a certificate (kubeadm, util/pkiutil:
// getAltNames). A name in serverCertSANs or peerCertSANs that is neither an address nor a DNS name
// is an error, as in kubeadm's validation.
func (c Config) Names(s Spec) (Names, error) {
	var more []string
	var field string
	switch s.Names {
	case ServerNames:
		more, field = c.ServerCertSANs, "serverCertSANs"
	case PeerNames:
		more, field = c.PeerCertSANs, "peerCertSANs"
	default:
		return Names{}, nil
	}
	advertise := netutils.ParseIPSloppy(c.AdvertiseAddress)
	if advertise == nil {
		return Names{}, fmt.Errorf("advertiseAddress: %q is not an IP address", c.AdvertiseAddress)
	}
	n := Names{DNS: []string{"localhost"}, IPs: []net.IP{advertise, net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	if c.NodeName != "" {
		n.DNS = append(n.DNS, c.NodeName)
	}
	var wrong []error
	for _, name := range more {
		ip := netutils.ParseIPSloppy(name)
		switch {
		case ip != nil:
			n.IPs = append(n.IPs, ip)
		case len(validation.IsDNS1123Subdomain(name)) == 0, len(validation.IsWildcardDNS1123Subdomain(name)) == 0:
			n.DNS = append(n.DNS, name)
		default:
			wrong = append(wrong, fmt.Errorf(
				"%s: %q is neither an IP address nor a DNS name in lower case (with *. before it, if need "+
					"be)", field, name))
		}
	}
	return n.unique(), errors.Join(wrong...)
}

// commonName returns the certificate's subject name.
func (c Config) commonName(s Spec) (string, error) {
	name := cmp.Or(s.CommonName, c.NodeName)
	if name == "" {
		return "", fmt.Errorf("cannot make the certificate %s: the node's name is empty", s.Name)
	}
	return name, nil
}

// validity returns how long a certificate is valid from now.
func (c Config) validity(s Spec) (time.Duration, error) {
	v := cmp.Or(c.Validity, DefaultValidity)
	if s.IsCA() {
		v = cmp.Or(c.CAValidity, DefaultCAValidity)
	}
	if v < 0 {
		return 0, fmt.Errorf("cannot make the certificate %s: it would be valid for %v", s.Name, v)
	}
	return v, nil
}
