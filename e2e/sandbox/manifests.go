package sandbox

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// kubernetesVersion is the version that the manifests claim.
const kubernetesVersion = "v1.37.2"

func kubeImage(name string) string { return "registry.k8s.io/" + name + ":" + kubernetesVersion }

func (s *Sandbox) etcdImage() string { return "registry.k8s.io/etcd:" + s.EtcdVersion + "-0" }

// ClientURL is etcd's client URL on 127.0.0.1, as in the API server's manifest.
func (s *Sandbox) ClientURL() string { return s.url("127.0.0.1", s.Ports.EtcdClient) }

// PeerURL is etcd's peer URL on the node's address.
func (s *Sandbox) PeerURL() string { return s.url(s.Address, s.Ports.EtcdPeer) }

func (s *Sandbox) url(host string, port int) string {
	scheme := "https"
	if s.options.PlainHTTP {
		scheme = "http"
	}
	return fmt.Sprintf("%s://%s:%d", scheme, host, port)
}

// initialCluster names the members at the time of joining, including this node: as with kubeadm,
// the first node's names only itself.
func (s *Sandbox) initialCluster() string {
	own := s.Node + "=" + s.PeerURL()
	if s.options.Join == nil {
		return own
	}
	return s.options.Join.initialCluster() + "," + own
}

// etcdPod is kubeadm's pod (cmd/kubeadm/app/phases/etcd/local.go), with the
// sandbox's ports and variants.
func (s *Sandbox) etcdPod() *corev1.Pod {
	client, peer := s.url(s.Address, s.Ports.EtcdClient), s.PeerURL()
	etcdPKI := pkiDir + "/etcd"
	flags := []string{
		"--advertise-client-urls=" + client,
		"--data-dir=" + DataDir,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=" + s.initialCluster(),
		"--listen-client-urls=" + s.ClientURL() + "," + client,
		fmt.Sprintf("--listen-metrics-urls=http://127.0.0.1:%d", s.Ports.EtcdMetrics),
		"--listen-peer-urls=" + peer,
		"--name=" + s.Node,
		"--snapshot-count=10000",
	}
	if s.options.Join != nil {
		flags = append(flags, "--initial-cluster-state=existing")
	}
	if strings.HasPrefix(s.EtcdVersion, "3.5.") {
		flags = append(flags, "--experimental-initial-corrupt-check=true",
			"--experimental-watch-progress-notify-interval=5s")
	} else {
		flags = append(flags, "--feature-gates=InitialCorruptCheck=true", "--watch-progress-notify-interval=5s")
	}
	if !s.options.PlainHTTP {
		flags = append(flags, "--cert-file="+etcdPKI+"/server.crt",
			"--client-cert-auth=true", "--key-file="+etcdPKI+"/server.key",
			"--peer-cert-file="+etcdPKI+"/peer.crt", "--peer-client-cert-auth=true",
			"--peer-key-file="+etcdPKI+"/peer.key",
			"--peer-trusted-ca-file="+etcdPKI+"/ca.crt", "--trusted-ca-file="+etcdPKI+"/ca.crt")
	}
	slices.Sort(flags)
	// kubeadm puts the data first among the mounts and sorts the volumes.
	volumes := []volume{{"etcd-data", DataDir, corev1.HostPathDirectoryOrCreate, false},
		{"etcd-certs", etcdPKI, corev1.HostPathDirectoryOrCreate, false}}
	if s.options.WALDir != "" {
		flags = append(flags, "--wal-dir="+s.options.WALDir)
		volumes = append(volumes, volume{"etcd-wal", s.options.WALDir, corev1.HostPathDirectoryOrCreate, false})
	}
	pod := component("etcd", s.etcdImage(), flags, volumes, "100m")
	pod.Annotations = map[string]string{"kubeadm.kubernetes.io/etcd.advertise-client-urls": client}
	container := &pod.Spec.Containers[0]
	container.Resources.Requests[corev1.ResourceMemory] = resource.MustParse("100Mi")
	addProbes(container, "127.0.0.1", s.Ports.EtcdMetrics, corev1.URISchemeHTTP, "/livez", "/readyz", "/readyz")
	return pod
}

// apiServerPod is kubeadm's (cmd/kubeadm/app/phases/controlplane/manifests.go) for a stacked etcd.
func (s *Sandbox) apiServerPod() *corev1.Pod {
	flags := []string{
		"--advertise-address=" + s.Address, "--allow-privileged=true",
		"--authorization-mode=Node,RBAC", "--client-ca-file=" + pkiDir + "/ca.crt",
		"--enable-admission-plugins=NodeRestriction", "--enable-bootstrap-token-auth=true",
		"--etcd-servers=" + s.ClientURL(),
		"--kubelet-client-certificate=" + pkiDir + "/apiserver-kubelet-client.crt",
		"--kubelet-client-key=" + pkiDir + "/apiserver-kubelet-client.key",
		"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"--proxy-client-cert-file=" + pkiDir + "/front-proxy-client.crt",
		"--proxy-client-key-file=" + pkiDir + "/front-proxy-client.key",
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-client-ca-file=" + pkiDir + "/front-proxy-ca.crt",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		"--secure-port=" + strconv.Itoa(s.Ports.APIServer),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + pkiDir + "/sa.pub",
		"--service-account-signing-key-file=" + pkiDir + "/sa.key", "--service-cluster-ip-range=10.96.0.0/12",
		"--tls-cert-file=" + pkiDir + "/apiserver.crt", "--tls-private-key-file=" + pkiDir + "/apiserver.key",
	}
	if !s.options.PlainHTTP {
		flags = append(flags, "--etcd-cafile="+pkiDir+"/etcd/ca.crt",
			"--etcd-certfile="+pkiDir+"/apiserver-etcd-client.crt",
			"--etcd-keyfile="+pkiDir+"/apiserver-etcd-client.key")
	}
	slices.Sort(flags)
	pod := component("kube-apiserver", kubeImage("kube-apiserver"), flags, []volume{caCerts(), k8sCerts()}, "250m")
	pod.Annotations = map[string]string{
		"kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": fmt.Sprintf("%s:%d",
			s.Address, s.Ports.APIServer),
	}
	addProbes(&pod.Spec.Containers[0], s.Address, s.Ports.APIServer,
		corev1.URISchemeHTTPS, "/livez", "/readyz", "/livez")
	return pod
}

func controllerManagerPod() *corev1.Pod {
	const name, config = "kube-controller-manager", "/etc/kubernetes/controller-manager.conf"
	pod := component(name, kubeImage(name), []string{
		"--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config, "--bind-address=127.0.0.1",
		"--client-ca-file=" + pkiDir + "/ca.crt", "--cluster-name=kubernetes",
		"--cluster-signing-cert-file=" + pkiDir + "/ca.crt",
		"--cluster-signing-key-file=" + pkiDir + "/ca.key", "--controllers=*,bootstrapsigner,tokencleaner",
		"--kubeconfig=" + config,
		"--leader-elect=true", "--requestheader-client-ca-file=" + pkiDir + "/front-proxy-ca.crt",
		"--root-ca-file=" + pkiDir + "/ca.crt",
		"--service-account-private-key-file=" + pkiDir + "/sa.key", "--use-service-account-credentials=true",
	}, []volume{caCerts(), k8sCerts(), {"kubeconfig", config, corev1.HostPathFileOrCreate, true}}, "200m")
	addProbes(&pod.Spec.Containers[0], "127.0.0.1", 10257, corev1.URISchemeHTTPS, "/healthz", "", "/healthz")
	return pod
}

func schedulerPod() *corev1.Pod {
	const name, config = "kube-scheduler", "/etc/kubernetes/scheduler.conf"
	pod := component(name, kubeImage(name), []string{
		"--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config, "--bind-address=127.0.0.1",
		"--kubeconfig=" + config, "--leader-elect=true",
	}, []volume{{"kubeconfig", config, corev1.HostPathFileOrCreate, true}}, "100m")
	addProbes(&pod.Spec.Containers[0], "127.0.0.1", 10259, corev1.URISchemeHTTPS, "/livez", "/readyz", "/livez")
	return pod
}

// volume is a host path mounted at the same path.
type volume struct {
	name, path string
	kind       corev1.HostPathType
	readOnly   bool
}

func caCerts() volume {
	return volume{"ca-certs", "/etc/ssl/certs", corev1.HostPathDirectoryOrCreate, true}
}
func k8sCerts() volume { return volume{"k8s-certs", pkiDir, corev1.HostPathDirectoryOrCreate, true} }

// component is the common part of all of kubeadm's static pods (cmd/kubeadm/app/util/staticpod).
func component(name, image string, flags []string, volumes []volume, cpu string) *corev1.Pod {
	priority := int32(2000001000)
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system",
			Labels: map[string]string{"component": name, "tier": "control-plane"}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name: name, Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
				Command: append([]string{name}, flags...),
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)},
				},
			}},
			HostNetwork: true, Priority: &priority, PriorityClassName: "system-node-critical",
			SecurityContext: &corev1.PodSecurityContext{
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
		},
	}
	for _, v := range volumes {
		pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts,
			corev1.VolumeMount{Name: v.name, MountPath: v.path, ReadOnly: v.readOnly})
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: v.name, VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: v.path, Type: &v.kind}}})
	}
	slices.SortFunc(pod.Spec.Volumes, func(a, b corev1.Volume) int { return strings.Compare(a.Name, b.Name) })
	return pod
}

// addProbes adds the named port and its probes; an empty path omits a probe.
func addProbes(c *corev1.Container, host string, port int, scheme corev1.URIScheme, live, ready, startup string) {
	c.Ports = []corev1.ContainerPort{{Name: "probe-port", ContainerPort: int32(port), Protocol: corev1.ProtocolTCP}}
	probe := func(path string, delay, period, failures int32) *corev1.Probe {
		if path == "" {
			return nil
		}
		get := &corev1.HTTPGetAction{Host: host, Path: path, Port: intstr.FromString("probe-port"), Scheme: scheme}
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: get},
			InitialDelaySeconds: delay, PeriodSeconds: period, FailureThreshold: failures, TimeoutSeconds: 15}
	}
	c.LivenessProbe, c.ReadinessProbe, c.StartupProbe = probe(live, 10, 10, 8),
		probe(ready, 0, 1, 3), probe(startup, 10, 10, 24)
}
