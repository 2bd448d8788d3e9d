package apiserver

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Report is the result of `apiserver show`: which etcds this node's API server uses, with which
// files, and whether that works now. The JSON names are stable.
type Report struct {
	Manifest  string           `json:"manifest"`
	Servers   []EndpointReport `json:"etcdServers"`
	Overrides []string         `json:"etcdServersOverrides"` // resources that are in other etcds
	Files     []EtcdFileReport `json:"files"`
	// Which of kubeadm's settings were compared; empty if they are unknown.
	Compared string `json:"compared,omitempty"`
	// Between the manifest and what kubeadm would write.
	Differences []string          `json:"differences"`
	Warnings    []string          `json:"warnings"`
	Findings    []finding.Finding `json:"findings"` // the same warnings, for programs
}

// EndpointReport is one etcd, dialled as the API server does.
type EndpointReport struct {
	URL       string `json:"url"`
	Serves    bool   `json:"serves"`
	Error     string `json:"error,omitempty"`    // why it does not
	Name      string `json:"name,omitempty"`     // of the member
	MemberID  string `json:"memberID,omitempty"` // hex
	Role      string `json:"role,omitempty" values:"leader,voter,learner"`
	Version   string `json:"version,omitempty"`   // of etcd
	ClusterID string `json:"clusterID,omitempty"` // hex
}

// EtcdFileReport is one of the files that the API server shows to etcd, or trusts it by.
type EtcdFileReport struct {
	Flag     string    `json:"flag"`
	Path     string    `json:"path"`              // in the container
	HostPath string    `json:"hostPath"`          // empty if it is not mounted from the node
	NotAfter time.Time `json:"notAfter,omitzero"` // of a certificate
	DaysLeft int       `json:"daysLeft"`
	Problem  string    `json:"problem,omitempty"`
	// Of the finding that the problem is.
	Code finding.Code `json:"code,omitempty"`
}

// Show examines the API server's etcd. It works when everything is down, and changes nothing.
func Show(ctx context.Context, n *observe.Node) (Report, error) {
	r := Report{Servers: []EndpointReport{}, Overrides: []string{},
		Files: []EtcdFileReport{}, Differences: []string{}}
	f := &Facts{Facts: &observe.Facts{Now: n.Clock.Now().UTC(), ManifestDir: n.Config.StaticPodPath},
		APIServer: &SetFacts{}}
	var err error
	if f.Manifests, err = n.Manifests(ctx, f.ManifestDir); err != nil {
		return r, err
	}
	f.Elsewhere = n.Elsewhere(f.Manifests)
	f.APIServer.File, f.APIServer.Container, _ = observe.Program(f.Manifests, "kube-apiserver")
	if err := checkAPIServer(f); err != nil {
		return r, err
	}
	m, container := f.APIServer.File, f.APIServer.Container
	now := EtcdFlagsOf(m, container)
	r.Manifest, r.Overrides = m.Path, append(r.Overrides,
		observe.SplitList(observe.FlagOf(m, container, "etcd-servers-overrides"))...)
	for _, file := range now.Named() {
		if *file.File != "" {
			r.Files = append(r.Files, fileReport(n, m, container, file, f.Now))
		}
	}
	answers := Ask(ctx, n, m, container, now)
	for _, a := range answers {
		r.Servers = append(r.Servers, a.report())
	}
	f.API = n.APIAccess(f.Manifests)
	compareWithKubeadm(ctx, n, &r, f, now)
	r.judge(answers)
	r.Findings, r.Warnings = finding.On(n.NameIn(f.Manifests), r.Findings), finding.Texts(r.Findings)
	return r, ctx.Err()
}

func (a Answer) report() EndpointReport {
	e := EndpointReport{URL: a.URL, Serves: a.Error == nil, Name: a.Name, Version: a.Version}
	if a.Error != nil {
		e.Error = a.Error.Error()
	}
	if a.MemberID != 0 {
		e.MemberID, e.ClusterID, e.Role = fmt.Sprintf("%x", a.MemberID), fmt.Sprintf("%x", a.ClusterID), a.role()
	}
	return e
}

func fileReport(
	n *observe.Node, m observe.ManifestFile, container string, file namedFlag, now time.Time,
) EtcdFileReport {
	r := EtcdFileReport{Flag: "--" + file.Name, Path: *file.File,
		HostPath: observe.HostFile(m, container, *file.File), Problem: fileSeen(n, m, container, *file.File)}
	if r.Problem != "" {
		r.Code = finding.FileNotMounted
	}
	if r.Problem != "" || file.Name == "etcd-keyfile" {
		return r
	}
	var s certs.Status
	if file.Name == "etcd-cafile" {
		s = certs.StatusOfCA(n, r.HostPath, now)
	} else {
		data, err := n.FS.ReadFile(r.HostPath)
		s = certs.StatusOf(r.HostPath, data, err, now)
	}
	r.NotAfter, r.DaysLeft, r.Problem, r.Code = s.NotAfter, s.DaysLeft, s.Problem, s.Code
	return r
}

// judge says what is wrong or risky.
func (r *Report) judge(answers []Answer) {
	r.Findings = []finding.Finding{}
	warn := func(code finding.Code, subject, format string, args ...any) {
		r.Findings = append(r.Findings, finding.New(code, subject, format, args...))
	}
	var first *Answer
	for i, a := range answers {
		switch {
		case a.Error != nil:
			warn(finding.EtcdUnreachable, a.URL, "%v", a.Error)
		case a.Learner:
			warn(finding.EtcdLearner, a.URL, "%s is a learner: it refuses the API server's requests", a.URL)
		}
		if a.ClusterID != 0 && first == nil {
			first = &answers[i]
		}
		if a.ClusterID != 0 && a.ClusterID != first.ClusterID {
			warn(finding.ClustersDiffer, a.URL, "%s is in cluster %x, but %s in cluster %x: they hold different "+
				"objects",
				a.URL, a.ClusterID, first.URL, first.ClusterID)
		}
		if strings.HasPrefix(a.URL, "http://") {
			warn(finding.EtcdPlainHTTP, a.URL, "%s is plain HTTP: anyone who can reach etcd or the network in between "+
				"can read and change everything", a.URL)
		}
	}
	for _, f := range r.Files {
		if f.Problem != "" {
			warn(f.Code, f.Path, "%s=%s: %s", f.Flag, f.Path, f.Problem)
		}
	}
}

// compareWithKubeadm compares the flags with those that kubeadm would write: by its
// ClusterConfiguration if the API server can be asked for it, otherwise by its defaults, which do
// not apply if etcd is not on this node.
func compareWithKubeadm(ctx context.Context, n *observe.Node, r *Report, f *Facts, now EtcdFlags) {
	advertise := observe.FlagOf(f.APIServer.File, f.APIServer.Container, "advertise-address")
	want, compared := kubeadmFlags(observe.KubeadmCertificatesDir, advertise), "kubeadm's defaults"
	config, err := n.ClusterConfiguration(ctx, f.API)
	if err == nil {
		want, compared = kubeadmFlagsIn(config, advertise), "kubeadm's ClusterConfiguration"
	}
	if _, _, local := observe.Program(f.Manifests, "etcd"); err != nil && !local {
		return
	}
	r.Compared, r.Differences = compared, append(r.Differences, now.Differences(want)...)
}

// kubeadmFlagsIn are the flags that a ClusterConfiguration asks for.
func kubeadmFlagsIn(c observe.ClusterConfiguration, advertise string) EtcdFlags {
	e := kubeadmFlags(c.CertificatesDir, advertise)
	if x := c.External; x != nil {
		e = EtcdFlags{Servers: x.Endpoints, CAFile: x.CAFile, CertFile: x.CertFile, KeyFile: x.KeyFile}
	}
	for _, arg := range c.APIServerArgs {
		e.Set(arg[0], arg[1])
	}
	return e
}

// Differences says where kubeadm would write something else.
func (e EtcdFlags) Differences(kubeadms EtcdFlags) []string {
	var all []string
	say := func(name, now, want string) {
		if want == "" {
			want = "nothing"
		}
		all = append(all, fmt.Sprintf("--%s is %s, but kubeadm would write %s", name, now, want))
	}
	if !sameServers(e.Servers, kubeadms.Servers) {
		say(observe.EtcdServersFlag, strings.Join(e.Servers, ","), strings.Join(kubeadms.Servers, ","))
	}
	for i, f := range e.Named() {
		if want := *kubeadms.Named()[i].File; *f.File != want {
			if *f.File == "" {
				all = append(all, fmt.Sprintf("--%s is not set, but kubeadm would write %s", f.Name, want))
				continue
			}
			say(f.Name, *f.File, want)
		}
	}
	return all
}
