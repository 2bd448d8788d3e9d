package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/cri"
	"github.com/etcdpod/etcdpod/e2e/sandbox/internal/kubelet"
	"github.com/etcdpod/etcdpod/e2e/sandbox/kubeapi"
)

// writeNode writes the files of a node after kubeadm init.
func (s *Sandbox) writeNode() error {
	if err := s.writeDirectories(); err != nil {
		return err
	}
	if err := s.writePKI(); err != nil {
		return err
	}
	endpoint := "containerRuntimeEndpoint: unix://" + cri.Socket + "\n"
	config := "apiVersion: kubelet.config.k8s.io/v1beta1\nauthentication:\n  x509:\n    clientCAFile: " +
		pkiDir + "/ca.crt\ncgroupDriver: systemd\n" +
		endpoint + "kind: KubeletConfiguration\nrotateCertificates: true\nstaticPodPath: " + ManifestDir + "\n"
	if err := s.write(kubelet.ConfigPath, []byte(config), 0o644); err != nil {
		return err
	}
	instance := "apiVersion: kubelet.config.k8s.io/v1beta1\n" + endpoint + "kind: KubeletConfiguration\n"
	if err := s.write("/var/lib/kubelet/instance-config.yaml", []byte(instance), 0o644); err != nil {
		return err
	}
	return s.writeManifests()
}

func (s *Sandbox) writeDirectories() error {
	modes := map[string]os.FileMode{ManifestDir: 0o700, "/run": 0o755,
		"/tmp": 0o777, "/var/log": 0o755, "/etc/ssl/certs": 0o755}
	dataDir := DataDir
	if s.options.DataLink != "" {
		dataDir = s.options.DataLink
	}
	modes[dataDir] = 0o700
	if s.options.WALDir != "" {
		modes[s.options.WALDir] = 0o700
	}
	for dir, mode := range modes {
		if err := os.MkdirAll(s.Path(dir), 0o755); err != nil {
			return err
		}
		if err := os.Chmod(s.Path(dir), mode); err != nil {
			return err
		}
	}
	if dataDir == DataDir {
		return nil
	}
	if err := os.MkdirAll(s.Path(filepath.Dir(DataDir)), 0o755); err != nil {
		return err
	}
	return os.Symlink(dataDir, s.Path(DataDir))
}

// writeManifests writes the static pods as kubeadm does, 0600.
func (s *Sandbox) writeManifests() error {
	pods := []*corev1.Pod{s.etcdPod()}
	if !s.options.NoAPIServer {
		pods = append(pods, s.apiServerPod(), controllerManagerPod(), schedulerPod())
	}
	for _, pod := range pods {
		text, err := yaml.Marshal(pod)
		if err != nil {
			return err
		}
		if err := s.write(filepath.Join(ManifestDir, pod.Name+".yaml"), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfigs writes the kubeconfigs of kubeadm init, 0600, each with a certificate
// of the cluster's CA.
func (s *Sandbox) writeKubeconfigs(ca *pair) error {
	for _, k := range []struct{ file, cn, organization string }{
		{"admin.conf", "kubernetes-admin", "kubeadm:cluster-admins"},
		{"super-admin.conf", "kubernetes-super-admin", "system:masters"},
		{"controller-manager.conf", "system:kube-controller-manager", ""},
		{"scheduler.conf", "system:kube-scheduler", ""},
		{"kubelet.conf", "system:node:" + s.Node, "system:nodes"},
	} {
		issued, err := issue(ca, leaf{cn: k.cn, organization: k.organization, client: true})
		if err != nil {
			return err
		}
		key, err := issued.keyPEM()
		if err != nil {
			return err
		}
		context := k.cn + "@kubernetes"
		config := kubeapi.Config{APIVersion: "v1", Kind: "Config", CurrentContext: context,
			Clusters: make([]kubeapi.NamedCluster, 1), Contexts: make([]kubeapi.NamedContext, 1),
			Users: make([]kubeapi.NamedUser, 1)}
		config.Clusters[0].Name, config.Clusters[0].Cluster.CA = "kubernetes", ca.certPEM()
		config.Clusters[0].Cluster.Server = fmt.Sprintf("https://%s:%d", s.Address, s.Ports.APIServer)
		config.Contexts[0].Name, config.Contexts[0].Context.Cluster, config.Contexts[0].Context.User = context,
			"kubernetes", k.cn
		config.Users[0].Name, config.Users[0].User.Cert, config.Users[0].User.Key = k.cn, issued.certPEM(), key
		text, err := yaml.Marshal(config)
		if err != nil {
			return err
		}
		if err := s.write("/etc/kubernetes/"+k.file, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// clusterConfiguration is the content of the ConfigMap kubeadm-config.
func (s *Sandbox) clusterConfiguration() string {
	return strings.Join([]string{
		"apiServer: {}", "apiVersion: kubeadm.k8s.io/v1beta4",
		"caCertificateValidityPeriod: 87600h0m0s", "certificateValidityPeriod: 8760h0m0s",
		"certificatesDir: " + pkiDir, "clusterName: kubernetes",
		"controllerManager: {}", "dns: {}", "encryptionAlgorithm: ECDSA-P256",
		"etcd:", "  local:", "    dataDir: " + DataDir, "imageRepository: registry.k8s.io",
		"kind: ClusterConfiguration",
		"kubernetesVersion: " + kubernetesVersion, "networking:",
		"  dnsDomain: cluster.local", "  serviceSubnet: 10.96.0.0/12",
		"proxy: {}", "scheduler: {}", "",
	}, "\n")
}
