package certs

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// Status is the state of one certificate file.
type Status struct {
	Path     string    `json:"path"`
	CN       string    `json:"cn"`
	NotAfter time.Time `json:"notAfter"`
	DaysLeft int       `json:"daysLeft"`
	Problem  string    `json:"problem,omitempty"`
	// Of the finding that the problem is.
	Code finding.Code `json:"code,omitempty"`
	isCA bool
}

// certSoon is how many days before its end a certificate causes a warning.
const certSoon = 30

// StatusOf judges a certificate file at a time; err is the error from reading it. Problem says that
// it is missing, cannot be read, is not valid yet, has expired, or expires within 30 days.
func StatusOf(file string, data []byte, err error, now time.Time) Status {
	if errors.Is(err, fs.ErrNotExist) {
		return Status{Path: file, Problem: "it is missing", Code: finding.CertificateMissing}
	}
	var c pki.Certificate
	if err == nil {
		c, err = pki.Inspect(file, data, now)
	}
	if err != nil {
		return Status{Path: file, Problem: err.Error(), Code: finding.CertificateUnreadable}
	}
	s := Status{Path: file, CN: c.Subject, NotAfter: c.NotAfter, DaysLeft: c.DaysLeft}
	switch {
	case c.Expired:
		s.Problem = "it expired on " + c.NotAfter.UTC().Format(time.DateOnly)
		s.Code = finding.CertificateExpired
	case c.NotYetValid:
		s.Problem = "it is not valid before " + c.NotBefore.UTC().Format(time.RFC3339)
		s.Code = finding.CertificateNotYetValid
	case c.DaysLeft < certSoon:
		s.Problem, s.Code = fmt.Sprintf("it expires in %d days", c.DaysLeft), finding.CertificateExpiring
	}
	return s
}

// StatusOfCA is StatusOf for a file that is named as a CA's, whose key is beside it, or elsewhere.
// Of several in it, as while a CA is exchanged, the one counts that signs: `certs check` judges
// that, too. What a leaf says of itself does not make it a CA: openssl's certificates say so.
func StatusOfCA(n *observe.Node, file string, now time.Time) Status {
	data, err := n.FS.ReadFile(file)
	if err == nil {
		// Without its key, or where that cannot be read, one that is valid counts.
		key, _ := n.ReadOptional(strings.TrimSuffix(file, ".crt") + ".key")
		if one := pki.Judged(data, key, now); one != nil {
			data = one
		}
	}
	s := StatusOf(file, data, err, now)
	s.isCA = true
	return s
}

// Renewal is what to do about those with a problem that are so; empty: none is. A CA comes first:
// nothing that it signs outlasts it. What is not valid yet may be the clock's fault, which would
// date new ones, too.
func Renewal(all []Status, so func(Status) bool) (what string) {
	clock, ca := "", false
	for _, s := range all {
		if s.Problem == "" || !so(s) {
			continue
		}
		what = "renew the certificates: `etcdpod certs renew` for those of etcd and its clients, `kubeadm certs " +
			"renew` for the others, whose pods must then be restarted"
		if s.Code == finding.CertificateNotYetValid {
			clock = "check this node's clock (`date -u`); if it is correct, "
		}
		ca = ca || s.isCA
	}
	if ca {
		what = pki.NewCA
	}
	return clock + what
}
