package templates

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	urls "net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	netutils "k8s.io/utils/net"
	"sigs.k8s.io/yaml"
)

// etcd's ports (kubeadm, constants).
const (
	clientPort  = "2379"
	peerPort    = "2380"
	metricsPort = 2381
	probePort   = "probe-port"
)

// EtcdManifest renders etcd.yaml. members is nil for the first member of a cluster; for a joining
// member it lists all, itself included.
func (c *Config) EtcdManifest(p *Patches, members []Member) ([]byte, error) {
	if c.External != nil {
		return nil, errors.New("cannot render etcd's manifest: the configuration has an external etcd")
	}
	text, err := yaml.Marshal(c.etcdPod(members))
	if err != nil {
		return nil, fmt.Errorf("cannot render etcd's manifest: %w", err)
	}
	return p.Apply("etcd", text)
}

// etcdPod follows GetEtcdPodSpec in kubeadm's app/phases/etcd/local.go, and
// ComponentPod in util/staticpod.
func (c *Config) etcdPod(members []Member) *corev1.Pod {
	command := []string{"etcd"}
	for _, f := range merged(c.etcdFlags(members), c.etcdArgs) {
		command = append(command, f.String())
	}
	scheme, host, port := c.probed()
	probe := func(path string, delay, failures, period int32) *corev1.Probe {
		get := &corev1.HTTPGetAction{Host: host, Path: path, Port: intstr.FromString(probePort), Scheme: scheme}
		return &corev1.Probe{
			ProbeHandler:        corev1.ProbeHandler{HTTPGet: get},
			InitialDelaySeconds: delay, TimeoutSeconds: 15, FailureThreshold: failures, PeriodSeconds: period,
		}
	}
	const period = 10 * time.Second
	startup := int32(math.Ceil(c.HealthCheck.Seconds() / period.Seconds()))
	certs := c.CertificatesDir + "/etcd"
	priority := int32(2000001000) // that of system-node-critical
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name: "etcd", Namespace: metav1.NamespaceSystem,
			Labels:      map[string]string{"component": "etcd", "tier": "control-plane"},
			Annotations: map[string]string{AnnotationClientURLs: c.ClientURL()},
		},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name: "etcd", Command: command, Image: c.EtcdImage, ImagePullPolicy: corev1.PullIfNotPresent,
				VolumeMounts: []corev1.VolumeMount{{Name: "etcd-data", MountPath: c.DataDir},
					{Name: "etcd-certs", MountPath: certs}},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("100Mi"),
				}},
				LivenessProbe:  probe("/livez", 10, 8, 10),
				ReadinessProbe: probe("/readyz", 0, 3, 1),
				StartupProbe:   probe("/readyz", 10, startup, 10),
				Env:            c.env(),
				Ports: []corev1.ContainerPort{
					{Name: probePort, ContainerPort: port, Protocol: corev1.ProtocolTCP},
				},
			}},
			Priority: &priority, PriorityClassName: "system-node-critical",
			HostNetwork: true,
			Volumes:     []corev1.Volume{hostPath("etcd-certs", certs), hostPath("etcd-data", c.DataDir)},
			SecurityContext: &corev1.PodSecurityContext{
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
		},
	}
}

func hostPath(name, path string) corev1.Volume {
	make := corev1.HostPathDirectoryOrCreate
	return corev1.Volume{
		Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &make}},
	}
}

// etcdFlags returns the base flags (kubeadm, phases/etcd: getEtcdCommand).
func (c *Config) etcdFlags(members []Member) []Flag {
	cert := func(name string) string { return path.Join(c.CertificatesDir, "etcd", name) }
	flags := []Flag{
		{"name", c.NodeName},
		{"listen-client-urls", url(c.localhost(), clientPort) + "," + c.ClientURL()},
		{"advertise-client-urls", c.ClientURL()},
		{"listen-peer-urls", c.PeerURL()},
		{"initial-advertise-peer-urls", c.PeerURL()},
		{"data-dir", c.DataDir},
		{"cert-file", cert("server.crt")},
		{"key-file", cert("server.key")},
		{"trusted-ca-file", cert("ca.crt")},
		{"client-cert-auth", "true"},
		{"peer-cert-file", cert("peer.crt")},
		{"peer-key-file", cert("peer.key")},
		{"peer-trusted-ca-file", cert("ca.crt")},
		{"peer-client-cert-auth", "true"},
		{"snapshot-count", "10000"},
		{"listen-metrics-urls", "http://" + strings.TrimPrefix(url(c.localhost(), strconv.Itoa(metricsPort)),
			"https://")},
	}
	if c.release.newNames {
		flags = append(flags, Flag{"feature-gates", "InitialCorruptCheck=true"},
			Flag{"watch-progress-notify-interval", "5s"})
	} else {
		flags = append(flags, Flag{"experimental-initial-corrupt-check", "true"},
			Flag{"experimental-watch-progress-notify-interval", "5s"})
	}
	if len(members) == 0 {
		return append(flags, Flag{"initial-cluster", c.NodeName + "=" + c.PeerURL()})
	}
	var all []string
	for _, m := range members {
		all = append(all, m.Name+"="+m.PeerURL)
	}
	return append(flags, Flag{"initial-cluster", strings.Join(all, ",")}, Flag{"initial-cluster-state", "existing"})
}

// probed is where etcd answers probes: the first URL of a person's --listen-metrics-urls (kubeadm,
// util/staticpod: GetEtcdProbeEndpoint).
func (c *Config) probed() (scheme corev1.URIScheme, host string, port int32) {
	scheme, host, port = corev1.URISchemeHTTP, c.localhost(), metricsPort
	arg, is := lastOf(c.etcdArgs, "listen-metrics-urls")
	if !is {
		return scheme, host, port
	}
	firstURL, _, _ := strings.Cut(arg.Value, ",")
	u, err := urls.Parse(firstURL)
	if err != nil {
		return scheme, host, port
	}
	if u.Scheme == "https" {
		scheme = corev1.URISchemeHTTPS
	}
	if p, err := netutils.ParsePort(u.Port(), false); err == nil {
		port = int32(p)
	}
	return scheme, cmp.Or(u.Hostname(), host), port
}

// env is sorted by name; the last of a name wins (kubeadm, util/env.go: MergeKubeadmEnvVars).
func (c *Config) env() []corev1.EnvVar {
	byName := map[string]corev1.EnvVar{}
	for _, e := range c.etcdEnvs {
		byName[e.Name] = e.EnvVar
	}
	all := make([]corev1.EnvVar, 0, len(byName))
	for _, e := range byName {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b corev1.EnvVar) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
