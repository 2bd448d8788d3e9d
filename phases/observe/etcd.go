package observe

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/pki"
)

// configure reads etcd's configuration file, if the manifest starts etcd with one: --config-file,
// or ETCD_CONFIG_FILE.
func (n *Node) configure(m *ManifestFile) {
	m.config, m.configFile, m.configError = nil, "", nil
	if m.Manifest == nil {
		return
	}
	container, ok := m.Manifest.Runs("etcd")
	if !ok {
		return
	}
	name := FlagOf(*m, container, configFlag)
	if name == "" {
		name = variable(*m, container, etcdVariable(configFlag))
	}
	if name == "" {
		return
	}
	if m.configFile = HostFile(*m, container, name); m.configFile == "" {
		m.configError = engine.Refuse("mount a host path there", "cannot read etcd's configuration: %s names %s, "+
			"which is not on a host path", m.Path, name)
		return
	}
	data, err := n.FS.ReadFile(m.configFile)
	if errors.Is(err, fs.ErrNotExist) {
		m.configError = engine.Refuse("put it back: from a backup of /etc/kubernetes, or another control plane",
			"etcd's configuration file %s does not exist: %s names it", m.configFile, m.Path)
		return
	}
	if err == nil { // numbers as they are written: a quota is a large one
		m.config = map[string]any{}
		err = yaml.Unmarshal(data, &m.config, func(d *json.Decoder) *json.Decoder { d.UseNumber(); return d })
	}
	if err != nil {
		m.configError = engine.RefuseKind(fmt.Errorf("cannot read etcd's configuration %s: %w", m.configFile, err))
	}
}

const configFlag = "config-file"

// etcdVariable is the variable that etcd reads instead of a flag (pkg/flags: FlagToEnv).
func etcdVariable(flag string) string {
	return etcdVariables + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Sections of etcd's configuration file that hold TLS settings (server/embed/config.go).
const (
	ClientSecurity = "client-transport-security"
	PeerSecurity   = "peer-transport-security"
)

// Setting returns one of etcd's settings by the name of its flag, empty when it is not set; section
// is where the configuration file has it, empty for the top level. As in etcd itself, a
// configuration file overrides all flags and the environment (server/etcdmain/config.go).
func (p *EtcdPod) Setting(section, name string) string {
	if p.File.config != nil {
		at := p.File.config
		if section != "" {
			at, _ = at[section].(map[string]any)
			name = strings.TrimPrefix(name, "peer-")
		}
		if v, ok := at[name]; ok {
			return fmt.Sprint(v)
		}
		return ""
	}
	if v := FlagOf(p.File, p.Container, name); v != "" {
		return v
	}
	return variable(p.File, p.Container, etcdVariable(name))
}

// Source is how one of etcd's settings of the top level is written where etcd takes it from, with
// a value unless that is empty, and the file in which that is: what a person must change.
func (p *EtcdPod) Source(name, value string) (as, file string) {
	between := "="
	_, flag := p.File.Manifest.Flag(p.Container, name)
	switch as, file = "--"+name, p.File.Path; {
	case p.File.config != nil:
		as, file, between = name, p.File.configFile, ": "
	case !flag && p.Setting("", name) != "":
		as = etcdVariable(name)
	}
	if value == "" {
		return as, file
	}
	return as + between + value, file
}

// variable returns a variable of a container, with those in it expanded.
func variable(m ManifestFile, container, name string) string {
	v, _ := m.Manifest.Env(container, name)
	v, _ = m.Manifest.Expand(container, v)
	return v
}

const forceNewCluster = "force-new-cluster"

// ForceNewCluster says whether etcd is started with --force-new-cluster, by its flags, environment
// or configuration file: at every start it then drops all other members.
func (p *EtcdPod) ForceNewCluster() bool {
	forced, err := strconv.ParseBool(p.Setting("", forceNewCluster))
	return err == nil && forced
}

// CheckForced refuses to start such an etcd beside other members.
func (p *EtcdPod) CheckForced() error {
	if p == nil || !p.ForceNewCluster() {
		return nil
	}
	as, file := p.Source(forceNewCluster, "")
	return engine.Refuse(fmt.Sprintf("remove %s from %s first: it is meant for a single start of the last remaining "+
		"member", as, file), "%s starts etcd with --force-new-cluster: it would remove all other members", p.File.Path)
}

// SettingFile is a setting that names a file, as a host path; empty when it is not set, or not on
// the host.
func (p *EtcdPod) SettingFile(section, name string) string {
	return HostFile(p.File, p.Container, p.Setting(section, name))
}

// CertificateFiles are the files with certificates that etcd reads, as host paths; some are empty.
func (p *EtcdPod) CertificateFiles() (files []string) {
	for _, name := range []string{"cert-file", "client-cert-file", "trusted-ca-file"} {
		files = append(files, p.SettingFile(ClientSecurity, name), p.SettingFile(PeerSecurity, "peer-"+name))
	}
	return files
}

// CAFiles are those of them with CAs; some are empty.
func (p *EtcdPod) CAFiles() []string {
	return []string{p.SettingFile(ClientSecurity, "trusted-ca-file"),
		p.SettingFile(PeerSecurity, "peer-trusted-ca-file")}
}

// EtcdPod reads the manifest of the cluster's etcd. It returns nil when there is none, and an error
// when nothing tells which of several it is, or when the manifest cannot be relied on.
func (n *Node) EtcdPod(files []ManifestFile) (*EtcdPod, error) {
	m, container, ok := Program(files, "etcd")
	if !ok {
		return nil, nil
	}
	if err := checkOneEtcd(files, m); err != nil {
		return nil, err
	}
	n.configure(&m) // it may have been rendered just now
	if m.configError != nil {
		return nil, m.configError
	}
	pod := &EtcdPod{File: m, Container: container, Image: m.Manifest.Image(container)}
	if pod.Name = pod.Setting("", "name"); pod.Name == "" {
		pod.Name = "default" // etcd's own default
	}
	if err := n.directories(pod); err != nil {
		return nil, err
	}
	pod.PeerURLs = SplitList(pod.Setting("", "initial-advertise-peer-urls"))
	if len(pod.PeerURLs) == 0 {
		pod.PeerURLs = []string{"http://localhost:2380"} // etcd's own default
	}
	pod.ClientURLs = SplitList(pod.Setting("", "advertise-client-urls"))
	pod.TrustedCA = pod.SettingFile(ClientSecurity, "trusted-ca-file")
	pod.Access = n.accessOf(pod, files)
	pod.Peer = n.peerAccess(pod)
	return pod, nil
}

// peerAccess is how to reach the member's own peer port: at the first URL that it advertises, or
// where it listens for that, with its own certificate.
func (n *Node) peerAccess(p *EtcdPod) op.Access {
	a := op.Access{Endpoints: p.PeerURLs[:1]}
	for _, raw := range SplitList(p.Setting("", "listen-peer-urls")) {
		for _, at := range n.FromHere(p, raw) {
			if at != a.Endpoints[0] && Secure(at) == Secure(a.Endpoints[0]) {
				a.Others = append(a.Others, at)
			}
		}
	}
	if Secure(p.PeerURLs[0]) {
		a.CACert = p.SettingFile(PeerSecurity, "peer-trusted-ca-file")
		cert := p.SettingFile(PeerSecurity, "peer-cert-file")
		a.Cert, a.Key = cert, p.SettingFile(PeerSecurity, "peer-key-file")
		a.Name = n.nameIn(cert)
	}
	return a
}

// SplitList splits a flag's value at commas and spaces.
func SplitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// directories finds etcd's data on the host.
func (n *Node) directories(pod *EtcdPod) error {
	dataDir := pod.Setting("", "data-dir")
	if dataDir == "" && pod.File.Manifest.Wrapped(pod.Container) {
		return engine.Refuse("have the manifest start etcd itself, with its flags in command or args",
			"%s starts etcd through a shell, so where its data is cannot be read there", pod.File.Path)
	}
	if dataDir == "" {
		dataDir = "/" + pod.Name + ".etcd" // etcd's own default, relative to the container's root
	}
	host := HostFile(pod.File, pod.Container, dataDir)
	if host == "" {
		return engine.Refuse("mount a host path there",
			"etcd's data directory %s is not on a host path of %s: it would be lost with the "+
				"pod", dataDir, pod.File.Path)
	}
	for _, h := range pod.File.Manifest.HostPaths() {
		if path.Clean(h.Path) == path.Clean(host) {
			pod.DataVolume = h.Volume
		}
	}
	var err error
	pod.DataPath = path.Clean(host)
	if pod.DataDir, err = n.Resolve(host); err != nil {
		return err
	}
	walDir := pod.Setting("", "wal-dir")
	if walDir == "" || path.Clean(walDir) == path.Join(dataDir, "member/wal") {
		return nil
	}
	host = HostFile(pod.File, pod.Container, walDir)
	if host == "" {
		return engine.Refuse("mount a host path there",
			"etcd's WAL directory %s is not on a host path of %s: it would be lost with the pod", walDir, pod.File.Path)
	}
	pod.WALDir, err = n.Resolve(host)
	return err
}

// Resolve follows symbolic links, also those that lead into nothing.
func (n *Node) Resolve(host string) (string, error) {
	resolved, err := n.FS.Resolve(host)
	if errors.Is(err, fs.ErrNotExist) {
		return node.Resolved(n.FS, host), nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot find %s: %w", host, err)
	}
	return resolved, nil
}

// accessOf finds how to reach the local etcd: at its own listeners, and where it says that others
// find it if that is on this node, with the first client certificate that exists: kubeadm's for
// health checks, the API server's, or etcd's own. What a person gave goes before.
func (n *Node) accessOf(pod *EtcdPod, files []ManifestFile) op.Access {
	urls := n.clientURLs(pod)
	a := op.Access{Endpoints: urls[:1], Others: urls[1:]}
	if given := n.Access.Endpoints; len(given) > 0 {
		a = op.Access{Endpoints: given}
	}
	if !slices.ContainsFunc(slices.Concat(a.Endpoints, a.Others), Secure) {
		return a
	}
	a.CACert = pod.TrustedCA
	serverCert := pod.SettingFile(ClientSecurity, "cert-file")
	if len(n.Access.Endpoints) == 0 {
		a.Name = n.nameIn(serverCert)
	}
	pairs := [][2]string{
		{path.Join(path.Dir(serverCert), "healthcheck-client.crt"),
			path.Join(path.Dir(serverCert), "healthcheck-client.key")},
	}
	if m, c, ok := Program(files, "kube-apiserver"); ok {
		pairs = append(pairs, [2]string{HostFile(m, c, FlagOf(m, c, "etcd-certfile")),
			HostFile(m, c, FlagOf(m, c, "etcd-keyfile"))})
		if a.CACert == "" {
			a.CACert = HostFile(m, c, FlagOf(m, c, "etcd-cafile"))
		}
	}
	pairs = append(pairs, [2]string{serverCert, pod.SettingFile(ClientSecurity, "key-file")})
	a.Cert, a.Key = n.clientPair(pod.TrustedCA, pairs...)
	return n.Typed(a)
}

// clientPair is the first pair that etcd would accept; if none is, the first that exists.
func (n *Node) clientPair(trusted string, pairs ...[2]string) (cert, key string) {
	for _, p := range pairs {
		if !n.Exists(p[0]) || !n.Exists(p[1]) {
			continue
		}
		leaf := pki.Leaf{CertFile: p[0], KeyFile: p[1], CAFile: trusted, Cert: n.content(p[0]), Key: n.content(p[1]),
			CA: n.content(trusted), Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if len(leaf.Check(n.Clock.Now())) == 0 {
			return p[0], p[1]
		}
		if cert == "" {
			cert, key = p[0], p[1]
		}
	}
	return cert, key
}

// AsClient is how clients on this host reach etcd: at the endpoints that a person gave, or else at
// those of this host that the API server uses, with the API server's certificate, or kubeadm's for
// health checks. It is what is left where etcd's own manifest is gone, or cannot be relied on;
// false when nothing tells.
func (n *Node) AsClient(files []ManifestFile) (op.Access, bool) {
	a := op.Access{Endpoints: n.Access.Endpoints}
	m, c, ok := Program(files, "kube-apiserver")
	if ok && len(a.Endpoints) == 0 {
		own := ownAddresses()
		a.Endpoints = slices.DeleteFunc(EtcdServers(m, c), func(raw string) bool {
			return !Loopback(HostOf(raw)) && !slices.Contains(own, HostOf(raw))
		})
	}
	return n.ClientAt(files, a.Endpoints...), len(a.Endpoints) > 0
}

// ClientAt is how clients of etcd on this host reach it at some URLs: with the API server's
// certificate, or kubeadm's for health checks.
func (n *Node) ClientAt(files []ManifestFile, urls ...string) op.Access {
	a := op.Access{Endpoints: urls}
	if slices.ContainsFunc(urls, Secure) {
		const dir = KubeadmCertificatesDir + "/etcd/"
		kubeadms := [2]string{dir + "healthcheck-client.crt", dir + "healthcheck-client.key"}
		pairs := [][2]string{kubeadms}
		if m, c, ok := Program(files, "kube-apiserver"); ok {
			a.CACert = HostFile(m, c, FlagOf(m, c, "etcd-cafile"))
			pairs = [][2]string{{HostFile(m, c, FlagOf(m, c, "etcd-certfile")),
				HostFile(m, c, FlagOf(m, c, "etcd-keyfile"))}, kubeadms}
		}
		a.Cert, a.Key = n.clientPair(cmp.Or(a.CACert, dir+"ca.crt"), pairs...)
		if a.CACert == "" && a.Cert == kubeadms[0] {
			a.CACert = dir + "ca.crt"
		}
	}
	return n.Typed(a)
}

// Typed puts what a person gave in the place of what the manifests say, and keeps the rest.
func (n *Node) Typed(a op.Access) op.Access {
	given := n.Access
	if given.CACert == "" && given.Cert == "" && given.Key == "" {
		return a
	}
	real := func(file string) string {
		if file == "" {
			return ""
		}
		return n.FS.Real(file)
	}
	a.Typed, a.CACert, a.Cert, a.Key = true, real(a.CACert), real(a.Cert), real(a.Key)
	if given.CACert != "" {
		a.CACert = given.CACert
	}
	if given.Cert != "" || given.Key != "" { // neither is of use with the other one's other half
		a.Cert, a.Key = given.Cert, given.Key
	}
	return a
}

// clientURLs are those at which this host reaches etcd, the surest first: over loopback, then at
// its other listeners, then where it advertises itself at an address of this node. There is at
// least one.
func (n *Node) clientURLs(pod *EtcdPod) []string {
	var near, far []string
	for _, raw := range SplitList(pod.Setting("", "listen-client-urls")) {
		for _, at := range n.FromHere(pod, raw) {
			if Loopback(HostOf(at)) {
				near = append(near, at)
			} else {
				far = append(far, at)
			}
		}
	}
	own := ownAddresses()
	for _, raw := range pod.ClientURLs {
		if slices.Contains(own, HostOf(raw)) {
			far = append(far, raw)
		}
	}
	var all []string
	for _, at := range append(near, far...) {
		if !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	if len(all) == 0 {
		return []string{"http://127.0.0.1:2379"} // etcd's own default
	}
	return all
}
