package observe

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/pki"
)

// neededFiles are the flags of each program that name a file without which it ends at once.
func neededFiles(program string) []string {
	switch program {
	case "etcd":
		return []string{"cert-file", "key-file", "trusted-ca-file", "client-cert-file", "client-key-file",
			"peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "peer-client-cert-file", "peer-client-key-file"}
	case "kube-apiserver":
		return []string{"client-ca-file", "etcd-cafile", "etcd-certfile", "etcd-keyfile", "tls-cert-file",
			"tls-private-key-file", "service-account-key-file", "service-account-signing-key-file",
			"requestheader-client-ca-file", "proxy-client-cert-file", "proxy-client-key-file",
			"kubelet-client-certificate", "kubelet-client-key", "kubelet-certificate-authority",
			"encryption-provider-config", "audit-policy-file", "audit-webhook-config-file",
			"admission-control-config-file", "authentication-config", "authentication-token-webhook-config-file",
			"token-auth-file", "oidc-ca-file", "authorization-config", "authorization-policy-file",
			"authorization-webhook-config-file", "egress-selector-config-file", "tracing-config-file", sniFlag}
	case "kube-controller-manager":
		return []string{"kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig", "root-ca-file",
			"service-account-private-key-file", "client-ca-file", "requestheader-client-ca-file", "tls-cert-file",
			"tls-private-key-file", sniFlag}
	case "kube-scheduler":
		return []string{"kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig", "config",
			"client-ca-file", "requestheader-client-ca-file", "tls-cert-file", "tls-private-key-file", sniFlag}
	}
	return nil
}

// sniFlag names a certificate, its key and perhaps the names that it is for: a.crt,a.key:a.example
// (k8s.io/component-base/cli/flag: NamedCertKey).
const sniFlag = "tls-sni-cert-key"

// missingFiles finds files that a program reads when it starts, or that the kubelet must mount, and
// that are not there.
func (n *Node) missingFiles(f *Facts) []Obstacle {
	var all []Obstacle
	for _, m := range f.Manifests {
		if m.Manifest == nil {
			continue
		}
		missing, useless := n.missingMounts(m), []string(nil)
		for _, program := range Components() {
			container, ok := m.Manifest.Runs(program)
			if !ok {
				continue
			}
			for _, needed := range filesOf(m, program, container) {
				switch file := needed.file; {
				case file == "":
				case n.gone(file):
					missing = added(missing, file)
				default:
					useless = added(useless, n.useless(needed))
				}
			}
			for _, said := range n.noPairs(m, program, container) {
				useless = added(useless, said)
			}
		}
		if len(missing) > 0 {
			all = append(all, lacking(m.Path, missing))
		}
		if len(useless) > 0 {
			all = append(all, Obstacle{Manifests: []string{m.Path},
				What: fmt.Sprintf("%s needs files that its program could not use: %s", m.Path,
					strings.Join(useless, ", ")), Fix: putBack})
		}
	}
	return all
}

// added is the list with what is said, once.
func added(all []string, said string) []string {
	if said == "" || slices.Contains(all, said) {
		return all
	}
	return append(all, said)
}

func lacking(manifest string, files []string) Obstacle {
	return Obstacle{Manifests: []string{manifest}, Missing: files,
		What: fmt.Sprintf("%s needs files that do not exist: %s", manifest, strings.Join(files, ", ")),
		Fix:  putBack}
}

const putBack = "put back what is missing: from another control plane or a backup of /etc/kubernetes, or create it " +
	"again"

// neededFile is a file that a program reads when it starts, as a host path; empty if that is not
// known.
type neededFile struct{ flag, file string }

// useless says what is wrong with a file that is there, as after a disk was full: a program that
// runs has read it before. Certificates and their keys are compared in [Node.ObserveCertificates].
func (n *Node) useless(needed neededFile) string {
	empty := func(data []byte) bool { return len(bytes.TrimSpace(data)) == 0 }
	data := n.content(needed.file)
	switch {
	case node.IsDir(n.FS, needed.file): // a runtime makes one where there is nothing to mount
		return needed.file + " (it is a directory)"
	case data == nil:
		return "" // nothing can be said
	case slices.Contains(authorities(), needed.flag) && !x509.NewCertPool().AppendCertsFromPEM(data):
		return needed.file + " (it holds no certificate that can be read)"
	case slices.Contains(tokenKeys(), needed.flag) && len(pki.KeyIDs(data)) == 0:
		return needed.file + " (it holds no key that can be read)"
	case slices.Contains(configurations(), needed.flag) && empty(data):
		return needed.file + " (it is empty)"
	}
	return ""
}

// noPairs says which certificates an API server presents to others with a key that is none of
// theirs. It starts when they have expired, and not with these.
func (n *Node) noPairs(m ManifestFile, program, container string) (all []string) {
	if program != "kube-apiserver" {
		return nil
	}
	for _, pair := range [][2]string{{"kubelet-client-certificate", "kubelet-client-key"},
		{"proxy-client-cert-file", "proxy-client-key-file"}} {
		cert := HostFile(m, container, FlagOf(m, container, pair[0]))
		key := HostFile(m, container, FlagOf(m, container, pair[1]))
		certPEM, keyPEM := n.content(cert), n.content(key)
		if certPEM == nil || keyPEM == nil {
			continue // what is missing is said elsewhere
		}
		if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
			all = append(all, fmt.Sprintf("%s, with the key in %s (%v)", cert, key, err))
		}
	}
	return all
}

// authorities are flags that name CAs.
func authorities() []string {
	return []string{"client-ca-file", "requestheader-client-ca-file", "etcd-cafile", "kubelet-certificate-authority",
		"oidc-ca-file", "trusted-ca-file", "peer-trusted-ca-file"}
}

// tokenKeys are flags that name keys for tokens, public or private (k8s.io/client-go/util/keyutil).
func tokenKeys() []string {
	return []string{"service-account-key-file", "service-account-signing-key-file", "service-account-private-key-file"}
}

// configurations are flags that name files of which an empty one ends the program.
func configurations() []string {
	return []string{"encryption-provider-config", "audit-policy-file", "authentication-config", "authorization-config",
		"kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"}
}

// filesOf are the files that a program reads when it starts, as host paths, as far as they are
// known; some are empty.
func filesOf(m ManifestFile, program, container string) (files []neededFile) {
	if program == "etcd" {
		pod := EtcdPod{File: m, Container: container}
		files = append(files, neededFile{"config-file", m.configFile})
		for _, name := range neededFiles(program) {
			section := ClientSecurity
			if strings.HasPrefix(name, "peer-") {
				section = PeerSecurity
			}
			files = append(files, neededFile{name, pod.SettingFile(section, name)})
		}
		return files
	}
	for _, flag := range m.Manifest.Flags(container) {
		if !slices.Contains(neededFiles(program), flag.Name) {
			continue
		}
		value, known := m.Manifest.Expand(container, flag.Value)
		if !known {
			continue
		}
		values := []string{value}
		if flag.Name == sniFlag {
			value, _, _ = strings.Cut(value, ":")
			values = strings.Split(value, ",")
		}
		for _, value := range values {
			files = append(files, neededFile{flag.Name, HostFile(m, container, value)})
		}
	}
	return files
}

// missingMounts are the volumes whose type demands that something is there (kubelet,
// pkg/volume/hostpath: checkTypeInternal).
func (n *Node) missingMounts(m ManifestFile) []string {
	var missing []string
	for _, h := range m.Manifest.HostPaths() {
		at := path.Clean(h.Path)
		if len(h.Mounts) > 0 && slices.Contains([]string{"File", "Directory", "Socket"}, h.Type) && n.gone(at) {
			missing = append(missing, at)
		}
	}
	return missing
}

// gone says whether a path leads to nothing; one that cannot be looked at is not gone.
func (n *Node) gone(file string) bool {
	there, err := node.IsThere(n.FS, file)
	return err == nil && !there
}
