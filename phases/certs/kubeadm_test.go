package certs

import (
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// `kubeadm certs renew` reads the old certificate, and keeps its names: that is no cure where the
// old one is missing, cannot be read, or is for others.
func TestTheCureOfACertificateOfKubeadmsCures(t *testing.T) {
	const renew, again = "run `kubeadm certs renew apiserver`", "`kubeadm init phase certs apiserver`"
	for code, want := range map[finding.Code]string{
		finding.CertificateExpired: renew, finding.CertificateExpiring: renew,
		finding.CertificateWrongKey: renew, finding.CertificateWrongCA: renew,
		finding.CertificateNotYetValid: "clock; if it is correct, " + renew,
		finding.CertificateWrongNames:  again, finding.CertificateWrongUsage: again,
		finding.CertificateMissing: again, finding.CertificateUnreadable: again,
	} {
		c := CertificateReport{Name: "apiserver", CAName: "ca", Path: "/pki/apiserver.crt",
			keyFile: "/pki/apiserver.key"}
		c.add(code, "it is so")
		next := (&Report{Certificates: []CertificateReport{c}}).next()
		if !strings.Contains(next, want) || !strings.Contains(next, "then restart the API server") {
			t.Errorf("%s: it proposes %q", code, next)
		}
		if strings.Contains(next, "move /pki/apiserver.crt and /pki/apiserver.key away") != (want == again) {
			t.Errorf("%s: it proposes %q", code, next)
		}
		c.ExternallyManaged = true
		if next := (&Report{Certificates: []CertificateReport{c}}).next(); strings.Contains(next, "kubeadm") {
			t.Errorf("%s, and the CA's key is elsewhere: it proposes %q", code, next)
		}
	}
}

// Where the clock is behind, it would date the new certificates, too.
func TestWhatIsNotYetValidIsNotRenewedByAWrongClock(t *testing.T) {
	all := []Status{{Path: "/pki/apiserver.crt", Problem: "it ends", Code: finding.CertificateExpiring},
		{Path: "/pki/etcd/server.crt", Problem: "it is not valid before", Code: finding.CertificateNotYetValid}}
	what := Renewal(all, func(Status) bool { return true })
	if !strings.HasPrefix(what, "check this node's clock") {
		t.Errorf("it proposes %q", what)
	}
	if what = Renewal(all[:1], func(Status) bool { return true }); !strings.HasPrefix(what, "renew the certificates") {
		t.Errorf("it proposes %q", what)
	}
}

// What `status` and `restore` say of a kubeconfig, `certs check` says, too.
func TestTheCureOfAKubeconfigIsTheSameEverywhere(t *testing.T) {
	again := "move /etc/kubernetes/%.conf away, and create it again: `kubeadm init phase kubeconfig %`"
	for name, then := range map[string]string{
		"admin": "", "scheduler": ", then restart kube-scheduler (`crictl stop`)",
	} {
		broken := &observe.Kubeconfig{Fix: strings.ReplaceAll(again, "%", name)}
		if got := kubeconfigFix(broken, name+".conf", false); got != broken.Fix+then {
			t.Errorf("it proposes %q", got)
		}
		if got := kubeconfigFix(&observe.Kubeconfig{}, name+".conf", true); got != "run `kubeadm certs renew "+name+
			".conf`"+then {
			t.Errorf("where it expires soon it proposes %q", got)
		}
	}
}
