package certs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

func (o RenewOptions) preflight() phase {
	return phase{Name: "preflight", Short: "check everything first", Found: o.found, Findings: o.warned,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			return nil, engine.Passes(f, checkManifests, o.checkForced, o.checkNode, o.checkFiles, o.checkCA,
				o.checkSigned, o.checkQuorum, o.checkStarts)
		}}
}

func checkManifests(f *Facts) error { return f.CheckManifests() }

// checkForced refuses to start an etcd anew that would throw the other members out.
func (o RenewOptions) checkForced(f *Facts) error {
	if f.Etcd == nil || !o.restarts(f, "etcd") || f.Live != nil && len(f.Live.Members) == 1 {
		return nil
	}
	return f.Etcd.CheckForced()
}

func (o RenewOptions) found(f *Facts) (found []string) {
	if o.From != "" {
		return nil
	}
	if f.Renewal.ConfigError == nil {
		found = append(found,
			"names and addresses are those of the old certificates, plus those in kubeadm's configuration")
	}
	for _, use := range f.Renewal.Uses {
		if c, err := pki.Inspect(use.leaf.CertFile, use.leaf.Cert, f.Now); err == nil {
			found = append(found, fmt.Sprintf("%s expires on %s", use.name, c.NotAfter.UTC().Format(time.DateOnly)))
		}
	}
	return found
}

// warned says what a person should know before certificates are renewed, or requested.
func (o RenewOptions) warned(f *Facts) (warned []finding.Finding) {
	if f.Live != nil && f.Live.Voters() == 2 && o.restarts(f, "etcd") {
		warned = append(warned, finding.New(finding.EtcdNoWrites, "",
			"a cluster of two needs both members for quorum: it takes no writes while this etcd restarts"))
	}
	warned = append(warned, f.StartDoubts(o.stops(f)...)...)
	if o.restarts(f, "etcd") && f.Etcd != nil {
		warned = append(warned, f.Etcd.SlowStart(f.Renewal.Size)...)
	}
	if o.From != "" {
		return warned
	}
	return append(warned, warnedOfNames(f)...)
}

// warnedOfNames says for whom the new certificates are, where that is not as one would think.
func warnedOfNames(f *Facts) (warned []finding.Finding) {
	if err := f.Renewal.ConfigError; err != nil {
		warned = append(warned, finding.New(finding.KubeadmConfigUnread, "", "names, addresses and key type stay "+
			"as in the old certificates, since kubeadm's configuration cannot be read: %v", err))
	}
	for _, use := range f.Renewal.Uses {
		c, err := pki.Inspect(use.leaf.CertFile, use.leaf.Cert, f.Now)
		if err == nil && f.foreign(use) {
			warned = append(warned, finding.New(finding.CertificateWrongNames, use.leaf.CertFile, "%s belongs to "+
				"another machine, for %s: the new one is for this node, without those names", use.name,
				strings.Join(append([]string{c.Subject}, c.SANs...), ", ")))
		}
	}
	return warned
}

// stops are the manifests whose pods start anew.
func (o RenewOptions) stops(f *Facts) []observe.ManifestFile {
	var files []observe.ManifestFile
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if m, _, ok := observe.Program(f.Manifests, name); ok && o.restarts(f, name) {
			files = append(files, m)
		}
	}
	return files
}

// checkStarts matters only if something is stopped.
func (o RenewOptions) checkStarts(f *Facts) error {
	if files := o.stops(f); len(files) > 0 {
		return f.CheckStarts(files...)
	}
	return nil
}

func (o RenewOptions) checkNode(f *Facts) error {
	if len(f.Renewal.Uses) == 0 && o.From != "" {
		return engine.Refuse("use the layout of `etcdpod certs generate-csr`: etcd/server.crt beside "+
			"etcd/server.key", "%s holds no etcd certificate", o.From)
	}
	if len(f.Renewal.Uses) == 0 {
		return cmp.Or(f.CheckControlPlane(), engine.Refuse("`etcdpod certs check` lists the certificates",
			"no manifest in %s names an etcd certificate that could be renewed", f.ManifestDir))
	}
	if len(o.pods(f)) == 0 {
		return f.CheckKubelet()
	}
	if err := f.CheckKubeletRuns("restart what uses the certificates", "start the kubelet"); err != nil {
		return err
	}
	return f.CheckRuntime()
}

// checkFiles refuses a missing certificate, which has no names to carry over, and one that cannot
// be read, which may be anything.
func (o RenewOptions) checkFiles(f *Facts) error {
	for _, use := range f.Renewal.Uses {
		l := use.leaf
		if l.Cert == nil || l.Key == nil {
			hint := "create it: `etcdpod init phase certs`"
			if o.From != "" {
				hint = "there is nothing to replace: copy the signed certificate and its key there, and check them " +
					"with `etcdpod init phase certs`"
			}
			return engine.Refuse(hint, "%s cannot be renewed: %s or %s is missing", use.name, l.CertFile, l.KeyFile)
		}
		if _, err := pki.Inspect(l.CertFile, l.Cert, f.Now); err != nil {
			return engine.Refuse("move it and its key away, and create it: `etcdpod init phase certs`",
				"%s cannot be renewed: %v", use.name, err)
		}
	}
	if len(f.Renewal.Exposed) > 0 { // the new key would take over the mode
		key := f.Renewal.Exposed[0]
		return engine.Refuse(fmt.Sprintf("run `chmod 0600 %s`, then the command again", key),
			"everyone on this machine can read the key %s", key)
	}
	return nil
}

func (o RenewOptions) checkCA(f *Facts) error {
	for _, use := range f.Renewal.Uses {
		file := use.leaf.CAFile
		if o.From == "" && slices.Contains(f.Renewal.External, file) {
			return engine.Refuse("ask the CA that has the key: `etcdpod certs generate-csr` creates keys and "+
				"requests, `etcdpod certs renew --from DIR` installs the signed certificates",
				"%s cannot be renewed here: the CA's key %s is missing", use.name, caKeyOf(file))
		}
		for _, p := range f.Renewal.Problems[file] {
			return engine.Refuse(p.Fix, "%s cannot be renewed: %s", use.name, p.What)
		}
	}
	return nil
}

// checkQuorum refuses if the cluster would stop serving while this member restarts. A cluster of
// one member or of two always stops for that moment, so it is not refused.
func (o RenewOptions) checkQuorum(f *Facts) error {
	if f.Live == nil || !o.restarts(f, "etcd") || len(f.Renewal.Silent) == 0 {
		return nil
	}
	voters := f.Live.Voters()
	if others := voters - 1 - len(f.Renewal.Silent); others < voters/2+1 {
		return engine.Refuse("start what does not answer first; then renew one node after the other",
			"the cluster would lose quorum while this etcd restarts: %d of %d members do not answer: %s",
			len(f.Renewal.Silent), voters, strings.Join(observe.MemberNames(f.Renewal.Silent), ", "))
	}
	return nil
}
