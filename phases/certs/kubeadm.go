package certs

import (
	"crypto/tls"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// What kubeadm has written besides the certificates that the manifests of etcd and of the API
// server name: a control plane is just as dead when these have ended.

// kubeadmLeaf is a certificate of kubeadm's that is none of etcd's.
type kubeadmLeaf struct {
	name string // kubeadm's; also its path below the certificates directory, without its extension
	ca   string // likewise
}

func kubeadmLeaves() []kubeadmLeaf {
	return []kubeadmLeaf{{"apiserver", "ca"}, {"apiserver-kubelet-client", "ca"},
		{"front-proxy-client", "front-proxy-ca"}}
}

func inPKI(file string) string { return path.Join(observe.KubeadmCertificatesDir, file) }

// KubeadmFiles are the certificate files of kubeadm's, CAs too, that are on this node, and those
// that etcd needs where it ought to run.
func KubeadmFiles(n *observe.Node, oughtToRun bool) []string {
	var all []string
	add := func(base string) {
		if file := inPKI(base + ".crt"); n.Exists(file) || oughtToRun && etcdNeeds(base) {
			all = append(all, file)
		}
	}
	for _, l := range kubeadmLeaves() {
		add(l.name)
		add(l.ca)
	}
	for _, s := range pki.EtcdSpecs() {
		add(s.Base)
	}
	return all
}

// IsCAFile says whether a file is one that kubeadm names as a CA's.
func IsCAFile(file string) bool {
	return slices.ContainsFunc(kubeadmLeaves(), func(l kubeadmLeaf) bool { return inPKI(l.ca+".crt") == file }) ||
		file == inPKI("etcd/ca.crt")
}

// etcdNeeds says whether an etcd that kubeadm made cannot run without a certificate.
func etcdNeeds(base string) bool { return base == "etcd/server" || base == "etcd/peer" }

// KubeconfigStatuses are the states of the certificates in kubeadm's kubeconfigs, as far as these
// are there.
func KubeconfigStatuses(n *observe.Node, now time.Time) []Status {
	var all []Status
	for _, name := range observe.KubeconfigNames() {
		file := observe.KubeconfigPath(name)
		if !n.Exists(file) {
			continue
		}
		leaf, err := n.KubeconfigLeaf(file, "")
		switch {
		case err != nil:
			all = append(all, Status{Path: file, Problem: err.Error(), Code: finding.CertificateUnreadable})
		case leaf == nil:
		case leaf.Cert == nil:
			all = append(all, Status{Path: file, Problem: leaf.CertFile + ", which it names, does not exist",
				Code: finding.CertificateMissing})
		default:
			all = append(all, StatusOf(file, leaf.Cert, nil, now))
		}
	}
	return all
}

// IsKubeconfig says whether it is the certificate in a kubeconfig.
func (s Status) IsKubeconfig() bool { return strings.HasSuffix(s.Path, ".conf") }

// kubeconfigCerts are the certificates in kubeadm's kubeconfigs, as `kubeadm certs
// check-expiration` lists them, and the kubelet's.
func kubeconfigCerts(n *observe.Node, u *certUses, clientCA string) []CertificateReport {
	var all []CertificateReport
	for _, name := range observe.KubeconfigNames() {
		file := observe.KubeconfigPath(name)
		if !n.Exists(file) {
			continue
		}
		c := CertificateReport{Name: name, Path: file, CAName: u.authority("ca", clientCA)}
		now := n.Clock.Now().UTC()
		c.fix = kubeconfigFix(n.Kubeconfig(file, clientCA, now), name, false)
		for _, ca := range u.cas {
			if ca.certFile == clientCA {
				c.ExternallyManaged = !n.Exists(ca.keyFile)
			}
		}
		leaf, err := n.KubeconfigLeaf(file, clientCA)
		switch {
		case err != nil:
			c.add(finding.CertificateUnreadable, "%v", err)
		case leaf == nil: // a token, which only an API server can judge
		default:
			dated := about(name, file, leaf.Cert, now)
			c.ExpirationDate, c.ResidualTime = dated.ExpirationDate, dated.ResidualTime
			c.Problems, c.found = dated.Problems, dated.found
			read, err := pki.Inspect(file, leaf.Cert, now)
			_, unpaired := tls.X509KeyPair(leaf.Cert, leaf.Key)
			fix := kubeconfigFix(n.Kubeconfig(file, clientCA, now), name,
				err == nil && !read.Expired && unpaired == nil)
			c.note(leaf.Check(now))
			c.fix = fix
		}
		all = append(all, c)
	}
	return all
}

// kubeconfigFix is how a kubeconfig of that name gets another certificate; good says that its own
// one can be read, with its key, and has not expired. Without that the kubelet, once stopped, would
// not start.
func kubeconfigFix(k *observe.Kubeconfig, name string, good bool) string {
	another := "run `kubeadm kubeconfig user --org system:nodes --user system:node:NODE` on a control plane, and put " +
		"its output into " + observe.KubeconfigPath(name)
	switch {
	case name == "kubelet.conf" && good:
		return "restart the kubelet, which renews its own certificate; if it does not, " + another +
			", and restart it again"
	case name == "kubelet.conf":
		return "do not restart the kubelet yet, it would not start again: first " + another
	}
	fix := "run `kubeadm certs renew " + name + "`"
	if k != nil && k.Fix != "" {
		fix = k.Fix
	}
	switch name {
	case "admin.conf", "super-admin.conf":
		return fix
	}
	return fix + ", then restart " + "kube-" + strings.TrimSuffix(name, ".conf") + " (`crictl stop`)"
}

// kubeadmFix is how a certificate of kubeadm's that is none of etcd's gets right again. `kubeadm
// certs renew` takes all but dates, key and CA from the old one: that is no help where the old one
// is missing, or is for others.
func (c CertificateReport) kubeadmFix() string {
	had := func(codes ...finding.Code) bool {
		return slices.ContainsFunc(c.found, func(f finding.Finding) bool { return slices.Contains(codes, f.Code) })
	}
	fix := fmt.Sprintf("run `kubeadm certs renew %s`", c.Name)
	switch {
	case c.ExternallyManaged:
		fix = fmt.Sprintf("get another %s from its CA, whose key is not on this node", c.Path)
	case had(finding.CertificateMissing, finding.CertificateUnreadable, finding.CertificateWrongNames,
		finding.CertificateWrongUsage):
		fix = fmt.Sprintf("move %s and %s away, as far as they exist, and create them again: `kubeadm init phase "+
			"certs %s`, with the --config or the flags of the first time", c.Path, c.keyFile, c.Name)
	case had(finding.CertificateNotYetValid):
		fix = "check this node's clock; if it is correct, " + fix
	}
	return fix + ", then restart the API server (`crictl stop`)"
}

// kubeadmLeafUses adds the certificates of kubeadm's that are there although no manifest names
// them.
func kubeadmLeafUses(n *observe.Node, u *certUses) {
	for _, l := range kubeadmLeaves() {
		cert := inPKI(l.name + ".crt")
		if u.has(cert) || !n.Exists(cert) {
			continue
		}
		usages := forClients
		if l.name == "apiserver" {
			usages = forServers
		}
		u.add(certUse{name: l.name, leaf: pki.Leaf{CertFile: cert, KeyFile: inPKI(l.name + ".key"), Usages: usages}},
			l.ca, inPKI(l.ca+".crt"))
	}
}
