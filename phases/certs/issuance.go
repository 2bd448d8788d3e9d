package certs

import (
	"errors"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
	"github.com/etcdpod/etcdpod/templates"
)

// NewIssuance is what the run makes a missing certificate from. dir is the certificates' directory,
// and issue holds all certificates that the run makes.
func NewIssuance(run string, c pki.Config, dir string, issue []pki.Spec, spec pki.Spec) op.Issuance {
	i := op.Issuance{Name: spec.Name, NodeName: c.NodeName, AdvertiseAddress: c.AdvertiseAddress,
		Algorithm: string(c.Algorithm), Validity: c.Validity}
	if spec.IsCA() {
		i.Validity = c.CAValidity
		return i
	}
	base := path.Join(dir, "etcd/ca")
	// The CA is made in the same run, and is not in place yet.
	if slices.ContainsFunc(issue, pki.Spec.IsCA) {
		base = path.Join(journal.NewCerts(run), spec.CA)
	}
	i.CACert, i.CAKey = base+".crt", base+".key"
	switch spec.Names {
	case pki.ServerNames:
		i.SANs = c.ServerCertSANs
	case pki.PeerNames:
		i.SANs = c.PeerCertSANs
	}
	return i
}

// PKIConfig is what kubeadm's configuration says about certificates.
func PKIConfig(c *templates.Config) pki.Config {
	return pki.Config{
		NodeName: c.NodeName, AdvertiseAddress: c.AdvertiseAddress,
		ServerCertSANs: c.ServerCertSANs, PeerCertSANs: c.PeerCertSANs,
		Algorithm: pki.Algorithm(c.EncryptionAlgorithm), Validity: c.CertificateValidity,
		CAValidity: c.CACertificateValidity,
	}
}

// firstRelease is the release date of the oldest Kubernetes that etcdpod renders for (1.34).
func firstRelease() time.Time { return time.Date(2025, time.August, 27, 0, 0, 0, 0, time.UTC) }

// CheckClock refuses a clock set before the first release of any Kubernetes that etcdpod renders
// for: certificates made by a clock that is behind have expired, or expire early, once it is set
// right.
func CheckClock(f *observe.Facts) error {
	if f.Now.After(firstRelease()) {
		return nil
	}
	return engine.Refuse("set this node's clock", "it cannot be %s already: this node's clock is wrong",
		f.Now.Format(time.RFC3339))
}

// Refused turns what is wrong with the certificates, existing or requested, into one refusal.
func Refused(err error) error {
	if err == nil {
		return nil
	}
	hint := "existing files are never overwritten: fix what is wrong, or move the file away"
	var first *pki.Problem
	if errors.As(err, &first) {
		hint = first.Fix
	}
	return engine.Refuse(hint, "etcd's certificates: %v", err)
}
