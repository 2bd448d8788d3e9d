package observe

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// settings are etcd's, wherever they come from. As in etcd itself, a configuration file silences
// flags and environment.
type settings struct {
	file      ManifestFile
	container string
	config    map[string]any
}

func (n *Node) Settings(m ManifestFile, container string) (settings, error) {
	s := settings{file: m, container: container}
	name := FlagOf(m, container, "config-file")
	if name == "" {
		name, _ = m.Manifest.Env(container, "ETCD_CONFIG_FILE")
	}
	if name == "" {
		return s, nil
	}
	host := HostFile(m, container, name)
	if host == "" {
		return s, engine.Refuse("", "cannot read etcd's configuration: %s names %s, which is in no host path",
			m.Path, name)
	}
	data, err := n.FS.ReadFile(host)
	if err != nil {
		return s, fmt.Errorf("cannot read etcd's configuration: %w", err)
	}
	if err := yaml.Unmarshal(data, &s.config); err != nil {
		return s, fmt.Errorf("cannot read etcd's configuration %s: %w", host, err)
	}
	return s, nil
}

// Get returns a setting by the name of its flag; section is where the configuration file has
// it, empty for the top.
func (s settings) Get(section, name string) string {
	if s.config != nil {
		at := s.config
		if section != "" {
			at, _ = at[section].(map[string]any)
			name = strings.TrimPrefix(name, "peer-")
		}
		if v, ok := at[name]; ok {
			return fmt.Sprint(v)
		}
		return ""
	}
	if v := FlagOf(s.file, s.container, name); v != "" {
		return v
	}
	v, _ := s.file.Manifest.Env(s.container, "ETCD_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_")))
	return v
}

const ClientSecurity = "client-transport-security"

// EtcdPod reads etcd's manifest. nil when there is none; an error when there are two, or when it
// cannot be relied on.
func (n *Node) EtcdPod(files []ManifestFile) (*EtcdPod, error) {
	m, container, ok := Program(files, "etcd")
	if !ok {
		return nil, nil
	}
	for _, other := range files {
		if other.Path == m.Path || other.Manifest == nil {
			continue
		}
		if _, too := other.Manifest.Runs("etcd"); too {
			return nil, engine.Refuse("the kubelet runs every file in that directory, whatever its name: move one "+
				"of them away", "two manifests run etcd: %s and %s", m.Path, other.Path)
		}
	}
	s, err := n.Settings(m, container)
	if err != nil {
		return nil, err
	}
	pod := &EtcdPod{File: m, Container: container, Name: s.Get("", "name"), Image: m.Manifest.Image(container)}
	if pod.Name == "" {
		pod.Name = "default" // etcd's own default
	}
	if err := n.directories(pod, s); err != nil {
		return nil, err
	}
	pod.PeerURLs = List(s.Get("", "initial-advertise-peer-urls"))
	if len(pod.PeerURLs) == 0 {
		pod.PeerURLs = []string{"http://localhost:2380"} // etcd's own default
	}
	pod.ClientURLs = List(s.Get("", "advertise-client-urls"))
	pod.TrustedCA = HostFile(m, container, s.Get(ClientSecurity, "trusted-ca-file"))
	pod.Access = n.accessOf(pod, s, files)
	pod.Peer = peerAccess(m, container, s, pod.PeerURLs)
	return pod, nil
}

const PeerSecurity = "peer-transport-security"

// peerAccess is how the member's own peer port is asked: at the first URL that it advertises, with
// its own certificate.
func peerAccess(m ManifestFile, container string, s settings, urls []string) op.Access {
	a := op.Access{Endpoints: urls[:1]}
	if strings.HasPrefix(urls[0], "https://") {
		file := func(flag string) string { return HostFile(m, container, s.Get(PeerSecurity, flag)) }
		a.CACert, a.Cert, a.Key = file("peer-trusted-ca-file"), file("peer-cert-file"), file("peer-key-file")
	}
	return a
}

func List(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// directories finds the data on the host.
func (n *Node) directories(pod *EtcdPod, s settings) error {
	dataDir := s.Get("", "data-dir")
	if dataDir == "" {
		dataDir = "/" + pod.Name + ".etcd" // etcd's own default, relative to the container's root
	}
	host := HostFile(pod.File, pod.Container, dataDir)
	if host == "" {
		return engine.Refuse("mount a host path there",
			"etcd's data directory %s is in no host path of %s: it ends with the pod", dataDir, pod.File.Path)
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
	walDir := s.Get("", "wal-dir")
	if walDir == "" || path.Clean(walDir) == path.Join(dataDir, "member/wal") {
		return nil
	}
	host = HostFile(pod.File, pod.Container, walDir)
	if host == "" {
		return engine.Refuse("mount a host path there",
			"etcd's WAL directory %s is in no host path of %s: it ends with the pod", walDir, pod.File.Path)
	}
	pod.WALDir, err = n.Resolve(host)
	return err
}

// Resolve follows links; a path of which even the parent is missing stays as it is.
func (n *Node) Resolve(host string) (string, error) {
	resolved, err := n.FS.Resolve(host)
	if errors.Is(err, fs.ErrNotExist) {
		return path.Clean(host), nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot find %s: %w", host, err)
	}
	return resolved, nil
}

// accessOf finds how to reach the local etcd: its own listener, and the first client certificate
// that is there: kubeadm's for health checks, the API server's, etcd's own.
func (n *Node) accessOf(pod *EtcdPod, s settings, files []ManifestFile) op.Access {
	if len(n.Access.Endpoints) > 0 {
		return op.Access{Endpoints: n.Access.Endpoints, CACert: n.Access.CACert,
			Cert: n.Access.Cert, Key: n.Access.Key, Typed: true}
	}
	a := op.Access{Endpoints: []string{endpoint(List(s.Get("", "listen-client-urls")))}}
	if !strings.HasPrefix(a.Endpoints[0], "https://") {
		return a
	}
	a.CACert = pod.TrustedCA
	serverCert := HostFile(pod.File, pod.Container, s.Get(ClientSecurity, "cert-file"))
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
	pairs = append(pairs, [2]string{serverCert, HostFile(pod.File, pod.Container, s.Get(ClientSecurity, "key-file"))})
	for _, p := range pairs {
		if n.ThereIs(p[0]) && n.ThereIs(p[1]) {
			a.Cert, a.Key = p[0], p[1]
			break
		}
	}
	return a
}

// endpoint picks the listener that this host reaches best: a loopback one, else the first; one on
// all addresses is reached over loopback.
func endpoint(urls []string) string {
	best := "http://127.0.0.1:2379"
	for i, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			continue
		}
		switch u.Hostname() {
		case "0.0.0.0", "::":
			u.Host = "127.0.0.1:" + u.Port()
		case "127.0.0.1", "localhost", "::1":
		default:
			if i == 0 {
				best = u.String()
			}
			continue
		}
		return u.String()
	}
	return best
}
