package certs

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// RequestOptions are the options of `certs generate-csr`.
type RequestOptions struct {
	// As for `certs renew`. With Kubeadm, none: the missing ones; all: every one of them.
	Names []string
	// --csr-dir, a host path: etcd/server.key, etcd/server.csr and so on are written below it.
	Dir string
	// kubeadm's configuration says whom the certificates are for, as in init; nil: the existing
	// certificates say it.
	Kubeadm *observe.KubeadmOptions
}

// Request is the workflow that makes keys, and requests for an external CA. It changes nothing that
// is in use; cut off, it leaves no key behind.
func Request(o RequestOptions) workflow {
	return workflow{Name: "request", Options: o.check, Observe: o.observe, Phases: []phase{
		o.preflight(),
		o.request(),
	}}
}

// Requests are the files that `certs generate-csr` wrote. The JSON names are stable.
type Requests struct {
	Requests []string `json:"requests"` // host paths, each ending in .csr; the key is beside it
}

// MakeRequests makes keys and requests, and returns their paths.
func MakeRequests(ctx context.Context, n *engine.Node, w engine.Work) (Requests, error) {
	made := Requests{Requests: []string{}}
	err := n.Do(ctx, w, func(p engine.Plan) error {
		for _, phase := range p.Phases {
			for _, o := range phase.Ops() {
				if r, ok := o.(*op.PutCertificate); ok {
					made.Requests = append(made.Requests, r.To+".csr")
				}
			}
		}
		return nil
	})
	return made, err
}

// RequestFacts describe what is requested, and where it is written.
type RequestFacts struct {
	Wanted  []op.Issuance
	There   []string // existing certificates that are not requested
	Missing []string // missing parent directories, outermost first
	Taken   []string // files that are in the way
	Exposed string   // why no keys can be put there
	Dirs    fs.FileMode

	Configured *configured // nil: those in use are requested
}

// configured is what kubeadm's configuration says about the requested certificates.
type configured struct {
	Warnings []string
	External bool   // etcd runs elsewhere
	Dir      string // of certificates
	Error    error  // why they cannot be made
}

func (o RequestOptions) check() error {
	const hint = "keys and requests are written there: use a directory whose keys are not in use"
	switch {
	case o.Dir == "":
		return &engine.UsageError{Reason: "certs generate-csr needs --csr-dir DIR", Hint: hint}
	case !path.IsAbs(o.Dir):
		return &engine.UsageError{Reason: "--csr-dir must be an absolute path, not " + o.Dir, Hint: hint}
	}
	if err := knownNames(o.Names); err != nil || o.Kubeadm == nil {
		return err
	}
	return o.Kubeadm.Check()
}

func (o RequestOptions) observe(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
	look := o.observeInUse
	if o.Kubeadm != nil {
		look = o.observeConfigured
	}
	f, err := look(ctx, n, id)
	if err != nil {
		return nil, err
	}
	for _, i := range f.Request.Wanted {
		to, err := o.place(i)
		if err != nil {
			return nil, err
		}
		if near := observe.Nearest(n.FS, path.Dir(to)); !node.IsDir(n.FS, near) {
			return nil, engine.Refuse("choose another --csr-dir",
				"%s is not a directory: requests cannot be written below it", near)
		}
		if err := f.Request.judge(n, path.Dir(to)); err != nil {
			return nil, err
		}
		f.Request.Missing = n.Missing(f.Request.Missing, path.Dir(to))
		for _, file := range []string{to + ".key", to + ".csr", to + ".crt"} {
			if n.Exists(file) {
				f.Request.Taken = append(f.Request.Taken, file)
			}
		}
	}
	return f, nil
}

// judge says whether keys can be put into a directory without somebody else having a hand in it.
// Their names are known to all.
func (r *RequestFacts) judge(n *observe.Node, dir string) error {
	at := observe.Nearest(n.FS, node.Resolved(n.FS, dir))
	why, err := node.Exposed(n.FS, at)
	if err != nil {
		return err
	}
	crowded, err := node.Crowded(n.FS, at)
	switch {
	case why != "":
	case crowded:
		why = "everyone can create files in " + at
	case node.Inside(n.FS, dir, n.Config.StaticPodPath):
		why = "the kubelet runs every file in " + n.Config.StaticPodPath
	}
	if r.Exposed == "" {
		r.Exposed = why
	}
	return err
}

// observeInUse lets each existing certificate say whom it is for.
func (o RequestOptions) observeInUse(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
	f, err := RenewOptions{Names: o.Names}.observe(ctx, n, id)
	if err != nil {
		return nil, err
	}
	f.Request = &RequestFacts{Dirs: 0o700}
	for _, use := range f.Renewal.Uses {
		f.Request.Wanted = append(f.Request.Wanted, f.issuance(use))
	}
	return f, nil
}

// observeConfigured needs only the configuration: it works on a root where nothing exists, and
// nothing runs.
func (o RequestOptions) observeConfigured(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
	c, err := o.Kubeadm.Read(n, false, nil)
	if err != nil {
		return nil, err
	}
	seen, err := n.ObserveFiles(ctx, id)
	if err != nil {
		return nil, err
	}
	made := &configured{Warnings: c.Warnings, External: c.External != nil, Dir: c.CertificatesDir}
	f := &Facts{Facts: seen, Request: &RequestFacts{Dirs: 0o700, Configured: made}}
	f.Node = c.NodeName
	// kubeadm asks for requests in that directory, and others look for certificates there.
	if observe.Overlap(o.Dir, made.Dir) {
		f.Request.Dirs = pki.DirMode
	}
	config := PKIConfig(c)
	var wrong []error
	for _, spec := range pki.EtcdSpecs() {
		file := path.Join(made.Dir, spec.CertFile())
		switch {
		case spec.IsCA() || len(o.Names) > 0 && !isAll(o.Names) && !slices.Contains(o.Names, spec.Name):
			continue
		case len(o.Names) == 0 && n.Exists(file):
			f.Request.There = append(f.Request.There, file)
			continue
		}
		wrong = append(wrong, config.CanMake(spec))
		f.Request.Wanted = append(f.Request.Wanted, NewIssuance(id, config, made.Dir, nil, spec))
	}
	made.Error = errors.Join(wrong...)
	return f, nil
}

// place is a request's path without .csr, laid out as kubeadm does below its certificates
// directory.
func (o RequestOptions) place(i op.Issuance) (string, error) {
	s, err := pki.EtcdSpec(i.Name)
	return path.Join(o.Dir, s.Base), err
}

func (o RequestOptions) preflight() phase {
	found, warned, check := RenewOptions{}.found, warnedOfNames, checkInUse
	if o.Kubeadm != nil {
		found, warned, check = foundConfigured, warnedConfigured, checkConfigured
	}
	return phase{Name: "preflight", Short: "check everything first", Found: found, Findings: warned,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			return nil, engine.Passes(f, check, checkPlace, checkOld)
		}}
}

// fromConfig is how to request a certificate that does not exist.
const fromConfig = "to request certificates that do not exist yet, take their names from kubeadm's configuration: " +
	"`etcdpod certs generate-csr --config FILE`"

func checkInUse(f *Facts) error {
	if len(f.Renewal.Uses) > 0 {
		return nil
	}
	return engine.Refuse(fromConfig, "no manifest in %s names an etcd certificate", f.ManifestDir)
}

// warnedConfigured says what is odd in kubeadm's configuration.
func warnedConfigured(f *Facts) (warned []finding.Finding) {
	for _, odd := range f.Request.Configured.Warnings {
		warned = append(warned, finding.New(finding.KubeadmConfig, "", "%s", odd))
	}
	return warned
}

func foundConfigured(f *Facts) (found []string) {
	for _, file := range f.Request.There {
		found = append(found, file+" exists: it stays, and no new one is requested")
	}
	return found
}

func checkConfigured(f *Facts) error {
	switch {
	case f.Request.Configured.External:
		return engine.Refuse("", "the configuration names an external etcd: its certificates are created where it runs")
	case f.Request.Configured.Error != nil:
		return Refused(f.Request.Configured.Error)
	case len(f.Request.Wanted) == 0:
		return engine.Refuse("give the names of those that you want, or all; without --config, a request copies the "+
			"names in the existing certificate", "all etcd certificates already exist in %s", f.Request.Configured.Dir)
	}
	return nil
}

func checkPlace(f *Facts) error {
	if why := f.Request.Exposed; why != "" {
		return engine.Refuse("use a --csr-dir that only root can write to, all its parents included (`mkdir -m 700 "+
			"DIR`)",
			"keys cannot be created there: %s", why)
	}
	if len(f.Request.Taken) == 0 {
		return nil
	}
	return engine.Refuse("choose another --csr-dir, or move away what is there",
		"%s already exists: a key is never overwritten", f.Request.Taken[0])
}

// checkOld refuses a missing certificate: it cannot say whom it is for.
func checkOld(f *Facts) error {
	if f.Renewal == nil {
		return nil
	}
	for _, use := range f.Renewal.Uses {
		if use.leaf.Cert == nil {
			return engine.Refuse(fromConfig, "%s cannot be requested: %s, which holds its names, does not exist",
				use.name, use.leaf.CertFile)
		}
		if _, err := pki.Inspect(use.leaf.CertFile, use.leaf.Cert, f.Now); err != nil {
			return engine.Refuse("move it and its key away; "+fromConfig, "%s cannot be requested: %v", use.name, err)
		}
	}
	return nil
}

// request makes all keys and requests in the run's folder before it puts any in place.
func (o RequestOptions) request() phase {
	return phase{Name: "generate-csr", Short: "create keys, and certificate requests for an external CA",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			staged := func(i op.Issuance) string { return path.Join(journal.NewCerts(f.Run), i.Name) }
			ops := []op.Op{&op.MakeDirectory{Path: journal.NewCerts(f.Run), Attr: node.Mine(0o700)}}
			for _, i := range f.Request.Wanted {
				ops = append(ops, &op.RequestCertificate{Issuance: i, To: staged(i)})
			}
			for _, dir := range f.Request.Missing {
				ops = append(ops, &op.MakeDirectory{Path: dir, Attr: node.Mine(f.Request.Dirs)})
			}
			for _, i := range f.Request.Wanted {
				to, err := o.place(i)
				if err != nil {
					return nil, err
				}
				ops = append(ops, &op.PutCertificate{Name: i.Name, From: staged(i),
					To: to, Request: true, Attr: [2]node.Attr{node.Mine(pki.CSRMode), node.Mine(pki.KeyMode)}})
			}
			return ops, nil
		}}
}
