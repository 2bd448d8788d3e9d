package phases

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// APIServerReport is what `apiserver show` tells: which etcds the API server of this node uses, with which files, and whether that works now. The JSON names are stable.
type APIServerReport struct {
	Manifest    string           `json:"manifest"`
	Servers     []EndpointReport `json:"etcdServers"`
	Overrides   []string         `json:"etcdServersOverrides"` // resources that are in other etcds
	Files       []EtcdFileReport `json:"files"`
	Compared    string           `json:"compared,omitempty"` // with what of kubeadm's; empty when that is not known
	Differences []string         `json:"differences"`        // from what kubeadm would write
	Warnings    []string         `json:"warnings"`
}

// EndpointReport is one etcd, dialled as the API server does.
type EndpointReport struct {
	URL       string `json:"url"`
	Serves    bool   `json:"serves"`
	Error     string `json:"error,omitempty"`     // why it does not
	Name      string `json:"name,omitempty"`      // of the member
	MemberID  string `json:"memberID,omitempty"`  // hex
	Role      string `json:"role,omitempty"`      // leader, follower, learner
	Version   string `json:"version,omitempty"`   // of etcd
	ClusterID string `json:"clusterID,omitempty"` // hex
}

// EtcdFileReport is one of the files that the API server shows etcd, or trusts it by.
type EtcdFileReport struct {
	Flag     string    `json:"flag"`
	Path     string    `json:"path"`              // in the container
	HostPath string    `json:"hostPath"`          // empty when it is not mounted from the node
	NotAfter time.Time `json:"notAfter,omitzero"` // of a certificate
	DaysLeft int       `json:"daysLeft"`
	Problem  string    `json:"problem,omitempty"`
}

// ShowAPIServer looks at the API server's etcd. It works when everything is down, and changes nothing.
func (n *View) ShowAPIServer(ctx context.Context) (APIServerReport, error) {
	r := APIServerReport{Servers: []EndpointReport{}, Overrides: []string{}, Files: []EtcdFileReport{}, Differences: []string{}, Warnings: []string{}}
	f := &factsOfAPIServer{Facts: &Facts{Now: n.Clock.Now().UTC(), ManifestDir: n.Config.StaticPodPath}, APIServer: &APIServerFacts{}}
	var err error
	if f.Manifests, err = n.manifests(f.ManifestDir); err != nil {
		return r, err
	}
	f.APIServer.File, f.APIServer.Container, _ = program(f.Manifests, "kube-apiserver")
	if err := checkAPIServer(f); err != nil {
		return r, err
	}
	m, container := f.APIServer.File, f.APIServer.Container
	now := etcdFlagsOf(m, container)
	r.Manifest, r.Overrides = m.Path, append(r.Overrides, list(flagOf(m, container, "etcd-servers-overrides"))...)
	for _, file := range now.named() {
		if *file.file != "" {
			r.Files = append(r.Files, n.fileReport(m, container, file, f.Now))
		}
	}
	answers := n.ask(ctx, m, container, now)
	for _, a := range answers {
		r.Servers = append(r.Servers, a.report())
	}
	f.API = n.apiAccess(f.Manifests)
	n.compareWithKubeadm(ctx, &r, f, now)
	r.judge(answers)
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

func (n *View) fileReport(m ManifestFile, container string, file namedFlag, now time.Time) EtcdFileReport {
	r := EtcdFileReport{Flag: "--" + file.name, Path: *file.file, HostPath: hostFile(m, container, *file.file), Problem: n.fileSeen(m, container, *file.file)}
	if r.Problem != "" || file.name == "etcd-keyfile" {
		return r
	}
	data, err := n.FS.ReadFile(r.HostPath)
	s := certStatus(r.HostPath, data, err, now)
	r.NotAfter, r.DaysLeft, r.Problem = s.NotAfter, s.DaysLeft, s.Problem
	return r
}

// judge says what is wrong, and what is risky.
func (r *APIServerReport) judge(answers []Answer) {
	warn := func(format string, args ...any) { r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...)) }
	var first *Answer
	for i, a := range answers {
		switch {
		case a.Error != nil:
			warn("%v", a.Error)
		case a.Learner:
			warn("%s is a learner: it refuses what the API server asks for", a.URL)
		}
		if a.ClusterID != 0 && first == nil {
			first = &answers[i]
		}
		if a.ClusterID != 0 && a.ClusterID != first.ClusterID {
			warn("%s is of cluster %x, and %s of cluster %x: they hold other objects", a.URL, a.ClusterID, first.URL, first.ClusterID)
		}
		if strings.HasPrefix(a.URL, "http://") {
			warn("%s is plain HTTP: who reaches etcd, or the way to it, can read and change everything", a.URL)
		}
	}
	for _, f := range r.Files {
		if f.Problem != "" {
			warn("%s=%s: %s", f.Flag, f.Path, f.Problem)
		}
	}
}

// compareWithKubeadm holds the flags against those that kubeadm would write, by its ClusterConfiguration where the API server can be asked for it, else by its defaults. Beside
// an etcd that is not on this node, there are none.
func (n *View) compareWithKubeadm(ctx context.Context, r *APIServerReport, f *factsOfAPIServer, now EtcdFlags) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	advertise := flagOf(f.APIServer.File, f.APIServer.Container, "advertise-address")
	want, compared := kubeadmFlags(kubeadmCertificatesDir, advertise), "kubeadm's defaults"
	config, err := n.kubeadmConfig(ctx, f.Facts)
	if err == nil {
		want, err = kubeadmFlagsIn(config, advertise)
		compared = "kubeadm's ClusterConfiguration"
	}
	if _, _, local := program(f.Manifests, "etcd"); err != nil && !local {
		return
	}
	r.Compared, r.Differences = compared, append(r.Differences, now.differences(want)...)
}

func (n *View) kubeadmConfig(ctx context.Context, f *Facts) (string, error) {
	if f.API.Kubeconfig == "" {
		return "", errors.New("there is no kubeconfig")
	}
	config, err := apiServerOf(n.FS).clusterConfiguration(ctx, f.API)
	return config.text(), err
}

// kubeadmFlagsIn are those that a ClusterConfiguration asks for, of v1beta4 and v1, or of the older v1beta3, whose extraArgs are a map.
func kubeadmFlagsIn(config, advertise string) (EtcdFlags, error) {
	var c struct {
		CertificatesDir string `json:"certificatesDir"`
		Etcd            struct {
			External *struct {
				Endpoints                 []string
				CAFile, CertFile, KeyFile string
			} `json:"external"`
		} `json:"etcd"`
		APIServer struct {
			ExtraArgs any `json:"extraArgs"`
		} `json:"apiServer"`
	}
	if err := yaml.Unmarshal([]byte(config), &c); err != nil {
		return EtcdFlags{}, fmt.Errorf("cannot read kubeadm's ClusterConfiguration: %w", err)
	}
	if c.CertificatesDir == "" {
		c.CertificatesDir = kubeadmCertificatesDir
	}
	e := kubeadmFlags(c.CertificatesDir, advertise)
	if x := c.Etcd.External; x != nil {
		e = EtcdFlags{Servers: x.Endpoints, CAFile: x.CAFile, CertFile: x.CertFile, KeyFile: x.KeyFile}
	}
	switch args := c.APIServer.ExtraArgs.(type) {
	case map[string]any:
		for name, value := range args {
			e.set(name, fmt.Sprint(value))
		}
	case []any:
		for _, arg := range args {
			if a, ok := arg.(map[string]any); ok {
				e.set(fmt.Sprint(a["name"]), fmt.Sprint(a["value"]))
			}
		}
	}
	return e, nil
}

// differences says what kubeadm would write otherwise.
func (e EtcdFlags) differences(kubeadms EtcdFlags) []string {
	var all []string
	say := func(name, now, want string) {
		if want == "" {
			want = "nothing"
		}
		all = append(all, fmt.Sprintf("--%s is %s, and kubeadm would write %s", name, now, want))
	}
	if !sameServers(e.Servers, kubeadms.Servers) {
		say(etcdServersFlag, strings.Join(e.Servers, ","), strings.Join(kubeadms.Servers, ","))
	}
	for i, f := range e.named() {
		if want := *kubeadms.named()[i].file; *f.file != want {
			if *f.file == "" {
				all = append(all, fmt.Sprintf("there is no --%s, and kubeadm would write %s", f.name, want))
				continue
			}
			say(f.name, *f.file, want)
		}
	}
	return all
}
