package certs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// Report is the result of `certs check`. The JSON names are stable; those of certificates are
// kubeadm's (kubeadm, apis/output/v1alpha3: CertificateExpirationInfo).
type Report struct {
	Certificates           []CertificateReport `json:"certificates"`
	CertificateAuthorities []CertificateReport `json:"certificateAuthorities"`
	Served                 []ServedReport      `json:"served"`
	Warnings               []string            `json:"warnings"` // what is wrong: exit code 6
	Findings               []finding.Finding   `json:"findings"` // the same warnings, for programs
	Next                   string              `json:"next"`     // the next thing to do
}

// CertificateReport is one certificate file.
type CertificateReport struct {
	Name           string    `json:"name"` // kubeadm's, where it has one
	Path           string    `json:"path"`
	ExpirationDate time.Time `json:"expirationDate,omitzero"`
	ResidualTime   int64     `json:"residualTime"` // seconds
	CAName         string    `json:"caName,omitempty"`
	// The CA's key is not here, so nothing can be renewed here.
	ExternallyManaged bool     `json:"externallyManaged"`
	Missing           bool     `json:"missing,omitempty"`
	Problems          []string `json:"problems,omitempty"`

	keyFile string            // empty for a CA, which a program needs without its key
	found   []finding.Finding // the problems
	fix     string            // how to fix the first problem
}

// ServedReport is what a running program shows at one address.
type ServedReport struct {
	Program        string    `json:"program"`
	Port           string    `json:"port" values:"client,peer,secure"`
	Address        string    `json:"address"` // host:port
	Name           string    `json:"name"`    // of the certificate that it should show
	ExpirationDate time.Time `json:"expirationDate,omitzero"`
	ResidualTime   int64     `json:"residualTime"`
	AsFile         bool      `json:"asFile"`          // it shows the certificate in the file
	Error          string    `json:"error,omitempty"` // why it could not be checked

	problem *finding.Finding // what is wrong with it
}

// Check examines the certificates of etcd, of the API server and in kubeadm's kubeconfigs: the
// files, and what the running processes really serve. It changes nothing, and works when everything
// is down. Whatever it could not look at is a warning: of that nobody knows whether it is well.
func Check(ctx context.Context, n *observe.Node) (Report, error) {
	r := Report{Certificates: []CertificateReport{}, CertificateAuthorities: []CertificateReport{},
		Served: []ServedReport{}, Findings: []finding.Finding{}}
	now, dir := n.Clock.Now().UTC(), n.Config.StaticPodPath
	files, err := n.Manifests(ctx, dir)
	if err != nil {
		r.add(finding.New(finding.ManifestDirUnreadable, dir, "%v", err))
	}
	if elsewhere := n.Elsewhere(files); elsewhere != "" && err == nil {
		r.add(finding.New(finding.NotControlPlane, dir, "%s", elsewhere))
		r.Findings, r.Warnings = finding.On(n.Name, r.Findings), finding.Texts(r.Findings)
		return r, ctx.Err()
	}
	pod, err := n.EtcdPod(files)
	if err != nil {
		r.add(finding.New(finding.EtcdManifestUnusable, dir, "%v", err))
	}
	lack := lackOf(ctx, n, files, pod, err)
	uses := findUses(n, files, pod, lack.trace != "")
	unseen := lack.unseen(n, files)
	if len(uses.leaves) == 0 && len(uses.cas) == 0 {
		unseen = append(unseen, finding.New(finding.CertificateMissing, observe.KubeadmCertificatesDir, "no manifest "+
			"in %s names a certificate, and kubeadm has left none in %s", dir, observe.KubeadmCertificatesDir))
	}
	r.look(n, &uses, observe.ClientCA(files), now)
	seen := &observe.Facts{Now: now, Manifests: files, Etcd: pod}
	obstacles := r.obstacles(ctx, n, seen)
	for _, o := range obstacles {
		r.add(o.Finding())
	}
	r.add(seen.Unasked()...)
	r.add(unseen...)
	r.Served = shown(ctx, n, uses.leaves, now)
	r.finish(obstacles)
	if lack.departed != nil && (r.Next == NothingToDo || r.Next == seeWarnings) {
		r.Next = lack.departed.Next()
	}
	r.Findings = finding.On(n.NameOf(pod), r.Findings)
	if len(obstacles) > 0 {
		r.Next = obstacles[0].Fix
	}
	return r, ctx.Err()
}

// Elsewhere says that this is no control-plane node; empty: it is one.
func (r Report) Elsewhere() string {
	for _, found := range r.Findings {
		if found.Code == finding.NotControlPlane {
			return found.Text
		}
	}
	return ""
}

// look examines the files.
func (r *Report) look(n *observe.Node, uses *certUses, clientCA string, now time.Time) {
	kubeconfigs := kubeconfigCerts(n, uses, clientCA)
	for _, ca := range uses.cas {
		r.CertificateAuthorities = append(r.CertificateAuthorities, checkCA(n, ca, now))
	}
	for i := range uses.leaves {
		r.Certificates = append(r.Certificates, checkLeaf(n, &uses.leaves[i], uses.cas, now))
	}
	r.Certificates = append(r.Certificates, kubeconfigs...)
}

// obstacles are what would keep a program from starting with the renewed certificates, except for
// files that are reported as certificates.
func (r *Report) obstacles(ctx context.Context, n *observe.Node, f *observe.Facts) []observe.Obstacle {
	n.ObserveStarts(ctx, f)
	reported := func(file string) bool {
		return slices.ContainsFunc(slices.Concat(r.CertificateAuthorities, r.Certificates),
			func(c CertificateReport) bool { return len(c.Problems) > 0 && (c.Path == file || c.keyFile == file) })
	}
	return observe.Unreported(f.Obstacles, reported)
}

func (r *Report) add(found ...finding.Finding) { r.Findings = append(r.Findings, found...) }

// lack is that no manifest runs etcd.
type lack struct {
	etcd     bool               // one ought to
	trace    string             // what tells so
	departed *observe.Departure // why none does any more
}

func lackOf(
	ctx context.Context, n *observe.Node, files []observe.ManifestFile, pod *observe.EtcdPod, podError error,
) (l lack) {
	if pod != nil {
		return l
	}
	l.trace = n.TraceOfEtcd(files)
	if podError != nil {
		return l
	}
	l.etcd = l.trace != "" || !observe.UsesOtherEtcd(files)
	if l.departed = n.Departed(ctx, files, l.etcd); l.departed != nil {
		return lack{departed: l.departed}
	}
	return l
}

// unseen are the programs whose manifests are not there, or cannot be read: nothing tells where
// they would serve, and with which files.
func (l lack) unseen(n *observe.Node, files []observe.ManifestFile) (w []finding.Finding) {
	for _, m := range files {
		if m.Manifest == nil {
			w = append(w, finding.New(finding.ManifestUnreadable, m.Path,
				"%s is not a readable manifest, so what it runs was not checked: %v", m.Path, m.Error))
		}
	}
	dir := n.Config.StaticPodPath
	switch {
	case l.departed != nil:
		w = append(w, finding.New(finding.EtcdDeparted, dir, "no etcd runs on this node any more: %s", l.departed))
	case l.etcd:
		w = append(w, finding.New(finding.EtcdManifestMissing, dir, "no manifest in %s runs etcd%s, so only "+
			"kubeadm's files were checked, not what etcd serves", dir, observe.Although(l.trace)))
	}
	if _, _, runs := observe.Program(files, "kube-apiserver"); !runs && n.Exists(inPKI("apiserver.crt")) {
		w = append(w, finding.New(finding.APIServerManifestMissing, dir, "no manifest in %s runs an API server, "+
			"although %s exists: what it serves was not checked", dir, inPKI("apiserver.crt")))
	}
	return append(w, n.WithoutKubeconfig(files)...)
}

// finish sorts as kubeadm does, and collects the warnings.
func (r *Report) finish(said []observe.Obstacle) {
	byName := func(a, b CertificateReport) int { return strings.Compare(a.Name, b.Name) }
	slices.SortStableFunc(r.Certificates, byName)
	slices.SortStableFunc(r.CertificateAuthorities, byName)
	for _, c := range slices.Concat(r.CertificateAuthorities, r.Certificates) {
		if !observe.Tells(said, c.Path) {
			r.add(c.found...)
		}
	}
	for _, s := range r.Served {
		if s.problem != nil {
			r.add(*s.problem)
		}
	}
	r.Warnings = finding.Texts(r.Findings)
	r.Next = r.next()
}

// next says how to fix the first problem: CAs come before what they sign, and files before what is
// made from them.
func (r *Report) next() string {
	for _, c := range slices.Concat(r.CertificateAuthorities, r.Certificates) {
		switch {
		case len(c.Problems) == 0:
		case slices.Contains(renewable(), c.Name) && c.ExternallyManaged:
			return "ask the external CA: `etcdpod certs generate-csr` creates keys and requests, `etcdpod certs " +
				"renew --from DIR` installs the signed certificates"
		case slices.Contains(renewable(), c.Name):
			return cmp.Or(c.fix, "run `etcdpod certs renew`")
		case slices.Contains(observe.KubeconfigNames(), c.Name):
			return c.fix
		case c.CAName != "": // kubeadm's, and not etcd's
			return c.kubeadmFix()
		default:
			return cmp.Or(c.fix, "see the first warning")
		}
	}
	for _, s := range r.Served {
		if s.problem != nil && s.Error != "" {
			return fmt.Sprintf("start %s, or fix what keeps it from answering; then check again", s.Program)
		}
		if s.problem != nil {
			return fmt.Sprintf("restart %s: stop its container (`crictl stop`), and the kubelet starts it again",
				s.Program)
		}
	}
	for _, f := range r.Findings {
		if f.Code == finding.EtcdManifestMissing || f.Code == finding.APIServerManifestMissing {
			return fmt.Sprintf("put the manifest back into %s; `etcdpod runs` shows whether a run took it out",
				f.Subject)
		}
	}
	if len(r.Findings) > 0 {
		return seeWarnings
	}
	return NothingToDo
}

// NothingToDo is what is next when all is well.
const NothingToDo = "nothing to do"

// seeWarnings is what is next where nothing more special is known.
const seeWarnings = "see the warnings"

// about begins a report: when the certificate expires, and any problem with its dates, judged as
// `status` does.
func about(name, file string, data []byte, now time.Time) CertificateReport {
	c := CertificateReport{Name: name, Path: file}
	if data == nil {
		c.Missing = true
		return c
	}
	s := StatusOf(file, data, nil, now)
	if s.NotAfter.IsZero() {
		return c // not a certificate; its check says so
	}
	c.ExpirationDate, c.ResidualTime = s.NotAfter, int64(s.NotAfter.Sub(now)/time.Second)
	if s.Problem != "" {
		c.add(s.Code, "certificate %s: %s", file, s.Problem)
	}
	return c
}

func (c *CertificateReport) add(code finding.Code, format string, args ...any) {
	f := finding.New(code, c.Path, format, args...)
	c.found, c.Problems = append(c.found, f), append(c.Problems, f.Text)
}

// codeOf is the code of what is wrong with a certificate.
func codeOf(kind pki.Kind) finding.Code {
	return map[pki.Kind]finding.Code{
		pki.Missing: finding.CertificateMissing, pki.Unreadable: finding.CertificateUnreadable,
		pki.WrongKey: finding.CertificateWrongKey, pki.WrongCA: finding.CertificateWrongCA,
		pki.WrongUsage: finding.CertificateWrongUsage, pki.WrongNames: finding.CertificateWrongNames,
		pki.NotYetValid: finding.CertificateNotYetValid, pki.Expired: finding.CertificateExpired,
	}[kind]
}

// note adds what a check found, except for the dates, which about has judged.
func (c *CertificateReport) note(found []*pki.Problem) {
	for _, p := range found {
		if p.Kind != pki.Expired && p.Kind != pki.NotYetValid {
			c.add(codeOf(p.Kind), "%s", p.What)
		}
		c.fix = cmp.Or(c.fix, p.Fix)
	}
}

func checkCA(n *observe.Node, ca certAuthority, now time.Time) CertificateReport {
	data, err := n.ReadOptional(ca.certFile)
	key, keyErr := n.ReadOptional(ca.keyFile)
	c := about(ca.name, ca.certFile, data, now)
	if one := pki.Judged(data, key, now); one != nil { // of several in the file
		c = about(ca.name, ca.certFile, one, now)
	}
	if len(c.found) > 0 && c.found[0].Code == finding.CertificateExpiring {
		c.fix = pki.NewCA
	}
	if err := errors.Join(err, keyErr); err != nil {
		c.Missing = false
		c.add(finding.CertificateUnreadable, "%v", err)
		return c
	}
	c.ExternallyManaged = key == nil
	c.note(pki.CheckCA(ca.certFile, data, ca.keyFile, key, now))
	return c
}

// checkLeaf also reads the files into the use.
func checkLeaf(n *observe.Node, use *certUse, cas []certAuthority, now time.Time) CertificateReport {
	l := &use.leaf
	var errs [3]error
	l.Cert, errs[0] = n.ReadOptional(l.CertFile)
	l.Key, errs[1] = n.ReadOptional(l.KeyFile)
	l.CA, errs[2] = n.ReadOptional(l.CAFile)
	c := about(use.name, l.CertFile, l.Cert, now)
	c.CAName, c.keyFile = use.ca, l.KeyFile
	for _, ca := range cas {
		if ca.name == use.ca {
			c.ExternallyManaged = !n.Exists(ca.keyFile)
		}
	}
	if err := errors.Join(errs[:2]...); err != nil { // the CA's own report covers the third
		c.Missing = false
		c.add(finding.CertificateUnreadable, "%v", err)
		return c
	}
	if c.Missing && l.Key == nil && use.program == "" {
		return c // nothing here depends on it
	}
	c.note(l.Check(now))
	return c
}

// shown dials all addresses at once.
func shown(ctx context.Context, n *observe.Node, uses []certUse, now time.Time) []ServedReport {
	all, of := []ServedReport{}, []certUse{}
	for _, use := range uses {
		for _, at := range use.addresses {
			all = append(all, ServedReport{Program: use.program, Port: use.port, Address: at, Name: use.name})
			of = append(of, use)
		}
	}
	engine.Concurrently(len(all), func(i int) { look(ctx, n, &all[i], of[i], now) })
	return all
}

// look dials one address.
func look(ctx context.Context, n *observe.Node, s *ServedReport, use certUse, now time.Time) {
	shown, err := n.Dialer().Served(ctx, s.Address, use.show)
	for _, way := range use.also[s.Address] {
		if err == nil || errors.Is(err, node.ErrNoTLS) {
			break
		}
		if other, otherErr := n.Dialer().Served(ctx, way, use.show); otherErr == nil {
			shown, err, s.Address = other, nil, way
		}
	}
	var c pki.Certificate
	if err == nil {
		c, err = pki.Inspect(s.Address, shown, now)
	}
	if err != nil {
		s.Error = err.Error()
		problem := finding.New(finding.PortSilent, s.Address, "%s", s.Error)
		if errors.Is(err, node.ErrNoTLS) {
			problem = finding.New(finding.PortPlain, s.Address, "%s, although the manifest of %s says https",
				s.Error, s.Program)
		}
		s.problem = &problem
		return
	}
	s.ExpirationDate, s.ResidualTime = c.NotAfter, int64(c.NotAfter.Sub(now)/time.Second)
	_, unusable := pki.Inspect(use.leaf.CertFile, use.leaf.Cert, now)
	// What is wrong with a file that holds no certificate is said of the file: nothing could start
	// with it again.
	if s.AsFile = pki.SameLeaf(shown, use.leaf.Cert); !s.AsFile && unusable == nil {
		problem := finding.New(finding.CertificateNotServed, use.leaf.CertFile,
			"%s presents a different certificate at %s than %s holds, one that expires on %s: restart needed",
			s.Program, s.Address, use.leaf.CertFile, c.NotAfter.UTC().Format(time.RFC3339))
		s.problem = &problem
	}
}
