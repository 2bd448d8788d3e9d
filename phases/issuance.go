package phases

import (
	"errors"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/pki"
	"github.com/etcdpod/etcdpod/templates"
)

// newIssuance is what a certificate that was not there is made from, by the run: below the certificates' directory dir, with all those in issue.
func newIssuance(run string, c pki.Config, dir string, issue []pki.Spec, spec pki.Spec) op.Issuance {
	i := op.Issuance{Name: spec.Name, NodeName: c.NodeName, AdvertiseAddress: c.AdvertiseAddress, Algorithm: string(c.Algorithm), Validity: c.Validity}
	if spec.IsCA() {
		i.Validity = c.CAValidity
		return i
	}
	base := path.Join(dir, "etcd/ca")
	if slices.ContainsFunc(issue, pki.Spec.IsCA) { // it is made in the same run, and not in place yet
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

// pkiOf is what kubeadm's configuration says of certificates.
func pkiOf(c *templates.Config) pki.Config {
	return pki.Config{
		NodeName: c.NodeName, AdvertiseAddress: c.AdvertiseAddress, ServerCertSANs: c.ServerCertSANs, PeerCertSANs: c.PeerCertSANs,
		Algorithm: pki.Algorithm(c.EncryptionAlgorithm), Validity: c.CertificateValidity, CAValidity: c.CACertificateValidity,
	}
}

// firstRelease is when the oldest Kubernetes that etcdpod renders for came out (1.34).
func firstRelease() time.Time { return time.Date(2025, time.August, 27, 0, 0, 0, 0, time.UTC) }

// checkClock: certificates made by a clock that is behind have ended, or are not valid yet, when it is put right.
func checkClock(f *Facts) error {
	if f.Now.After(firstRelease()) {
		return nil
	}
	return refuse("set the clock of this node", "it cannot be %s: this node's clock is wrong", f.Now.Format(time.RFC3339))
}

// refusedCerts is what speaks against the certificates that are there, or that are asked for, as one refusal.
func refusedCerts(err error) error {
	if err == nil {
		return nil
	}
	hint := "what is there is never overwritten: put right what is wrong, or move it away"
	var first *pki.Problem
	if errors.As(err, &first) {
		hint = first.Fix
	}
	return refuse(hint, "the certificates of etcd: %v", err)
}
