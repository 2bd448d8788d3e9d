package pki

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Plan says what to make, CA first. Existing files are kept, whatever other names they cover:
// nothing is overwritten.
type Plan struct {
	Keep  []Spec
	Issue []Spec
}

// Plan decides as kubeadm does: it keeps what is good, makes what is missing, and fails if
// something is wrong, such as a certificate without its key (kubeadm, phases/certs: CreateTree,
// writeCertificateFilesIfNotExist). Unlike kubeadm it checks everything before anything is made:
// the error joins a *Problem for each thing that is wrong. Without the CA's key nothing can be
// made: if something is missing, the error says how to ask the external CA.
//
// It makes the CA only if it is among the specs.
func (c Config) Plan(specs []Spec, have Files, now time.Time) (Plan, error) {
	var p Plan
	var problems []error
	add := func(found []*Problem) {
		for _, problem := range found {
			// A bad CA is bad for everything that it signs: say so once.
			if !slices.ContainsFunc(problems, func(err error) bool { return err.Error() == problem.What }) {
				problems = append(problems, problem)
			}
		}
	}
	for _, s := range specs {
		if have[s.CertFile()] == nil && have[s.KeyFile()] == nil {
			if found := c.canIssue(s, specs, have); found != nil {
				add([]*Problem{found})
			}
			if err := c.CanMake(s); err != nil {
				problems = append(problems, err)
			}
			p.Issue = append(p.Issue, s)
			continue
		}
		found, err := c.Check(s, have, now)
		if err != nil {
			problems = append(problems, err)
		}
		add(found)
		p.Keep = append(p.Keep, s)
	}
	// If no file of the CA exists, the certificates that it should sign have already reported it.
	for _, ca := range authorities(specs) {
		cert, key := have[ca.CertFile()], have[ca.KeyFile()]
		if !among(ca, specs) && (cert != nil || key != nil) {
			add(CheckCA(ca.CertFile(), cert, ca.KeyFile(), key, now))
		}
	}
	if len(problems) > 0 {
		return Plan{}, errors.Join(problems...)
	}
	return p, nil
}

// Check returns what is wrong with one existing certificate and its key, for the configuration
// and the existing CA.
func (c Config) Check(s Spec, have Files, now time.Time) ([]*Problem, error) {
	if s.IsCA() {
		return CheckCA(s.CertFile(), have[s.CertFile()], s.KeyFile(), have[s.KeyFile()], now), nil
	}
	names, err := c.Names(s)
	if err != nil {
		return nil, err
	}
	l := Leaf{CertFile: s.CertFile(), KeyFile: s.KeyFile(), Cert: have[s.CertFile()],
		Key: have[s.KeyFile()], Usages: s.Usages, Names: names}
	for _, ca := range authorities([]Spec{s}) {
		l.CAFile, l.CA = ca.CertFile(), have[ca.CertFile()]
		if l.CA == nil {
			return append(l.Check(now), &Problem{WrongCA, fmt.Sprintf("%s exists, but its CA %s is missing",
				l.CertFile, l.CAFile), "put the CA back, or move the certificate and its key out of the way"}), nil
		}
	}
	return l.Check(now), nil
}

// canIssue says why a certificate cannot be made.
func (c Config) canIssue(s Spec, specs []Spec, have Files) *Problem {
	if s.IsCA() {
		return nil
	}
	for _, ca := range authorities([]Spec{s}) {
		noCert, noKey := have[ca.CertFile()] == nil, have[ca.KeyFile()] == nil
		switch {
		case noCert && noKey && !among(ca, specs):
			return &Problem{
				Missing, fmt.Sprintf("%s cannot be created: its CA %s is missing", s.CertFile(), ca.CertFile()),
				fmt.Sprintf("copy %s and %s from another control plane, or create the CA first",
					ca.CertFile(), ca.KeyFile()),
			}
		case noKey && !noCert:
			return &Problem{
				Missing, fmt.Sprintf("%s is missing, and cannot be created: the CA's key %s is missing, too",
					s.CertFile(), ca.KeyFile()),
				"copy the key here, or ask the CA that has it: `etcdpod certs generate-csr --config FILE` creates " +
					"keys and requests; put the signed certificates and keys beside the CA's certificate",
			}
		}
	}
	return nil
}

// CanMake says why the configuration does not allow making a certificate, or a request for it.
func (c Config) CanMake(s Spec) error {
	_, err := Issuer{Config: c}.template(s)
	return err
}

// authorities returns the CAs that sign these certificates.
func authorities(specs []Spec) []Spec {
	return slices.DeleteFunc(EtcdSpecs(), func(ca Spec) bool {
		return !slices.ContainsFunc(specs, func(s Spec) bool { return s.CA == ca.Name })
	})
}

func among(s Spec, specs []Spec) bool {
	return slices.ContainsFunc(specs, func(o Spec) bool { return o.Name == s.Name })
}
