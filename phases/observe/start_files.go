package observe

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/node"
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
		missing := n.missingMounts(m)
		for _, program := range Components() {
			container, ok := m.Manifest.Runs(program)
			if !ok {
				continue
			}
			for _, file := range filesOf(m, program, container) {
				if file != "" && n.gone(file) && !slices.Contains(missing, file) {
					missing = append(missing, file)
				}
			}
		}
		if len(missing) == 0 {
			continue
		}
		all = append(all, lacking(m.Path, missing))
	}
	return all
}

func lacking(manifest string, files []string) Obstacle {
	return Obstacle{Manifests: []string{manifest}, Missing: files,
		What: fmt.Sprintf("%s needs files that do not exist: %s", manifest, strings.Join(files, ", ")),
		Fix: "put back what is missing: from another control plane or a backup of /etc/kubernetes, or create it " +
			"again"}
}

// filesOf are the files that a program reads when it starts, as host paths, as far as they are
// known; some are empty.
func filesOf(m ManifestFile, program, container string) (files []string) {
	if program == "etcd" {
		pod := EtcdPod{File: m, Container: container}
		files = append(files, m.configFile)
		for _, name := range neededFiles(program) {
			section := ClientSecurity
			if strings.HasPrefix(name, "peer-") {
				section = PeerSecurity
			}
			files = append(files, pod.SettingFile(section, name))
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
			files = append(files, HostFile(m, container, value))
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
