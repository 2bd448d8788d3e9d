// Package templates reads kubeadm's configuration and renders kubeadm's files: etcd's manifest,
// byte for byte as kubeadm 1.34 to 1.37 do, and the API server's flags for etcd. It does no I/O:
// bytes and values in, values and bytes out.
package templates

import (
	"time"

	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1"
)

// Options are kubeadm's inputs besides its file.
type Options struct {
	// For a joining member: JoinConfiguration describes the node, not InitConfiguration.
	Join bool
	// Allows kubeadm.k8s.io/v1, like kubeadm's flag of that name.
	AllowExperimentalAPI bool
	// The cluster's own ClusterConfiguration (ConfigMap kubeadm-config); it wins over the file's,
	// as in `kubeadm join`.
	Cluster []byte

	// From the host. Needed if neither the file nor a flag has them.
	Hostname       string // as the kernel has it; the node's name is derived from it as in kubeadm
	DefaultAddress string // of the interface of the default route; kubeadm's advertise address

	// kubeadm's flags of the same names. Empty: not given. All except NodeName, which wins over the
	// file, are refused together with a file, as in kubeadm.
	NodeName          string // --node-name
	AdvertiseAddress  string // --apiserver-advertise-address
	KubernetesVersion string // --kubernetes-version
	ImageRepository   string // --image-repository
	CertificatesDir   string // --cert-dir
	PatchesDir        string // --patches
}

// Config is kubeadm's configuration as far as it matters to etcd: with defaults, and valid.
type Config struct {
	// What kubeadm would warn about, and etcdpod's own warnings; for a person.
	Warnings []string

	NodeName          string
	AdvertiseAddress  string
	KubernetesVersion string // "v1.37.2"
	PatchesDir        string // "": none

	CertificatesDir       string
	EncryptionAlgorithm   string // "RSA-2048", …
	CertificateValidity   time.Duration
	CACertificateValidity time.Duration

	HealthCheck time.Duration // timeouts.controlPlaneComponentHealthCheck
	EtcdAPICall time.Duration // timeouts.etcdAPICall

	External *External // nil: etcd is local, as in the fields below

	DataDir        string
	ServerCertSANs []string
	PeerCertSANs   []string
	EtcdImage      string // "registry.k8s.io/etcd:3.7.0-0"

	release       release
	etcdArgs      []kubeadm.Arg    // etcd.local.extraArgs
	etcdEnvs      []kubeadm.EnvVar // etcd.local.extraEnvs
	apiServerArgs []kubeadm.Arg    // apiServer.extraArgs
}

// External is an etcd that kubeadm does not run.
type External struct {
	Endpoints                 []string
	CAFile, CertFile, KeyFile string // "": not given
}

// Member is one of the members in --initial-cluster.
type Member struct {
	Name    string
	PeerURL string
}

// Flag is one flag of a program: --Name=Value.
type Flag struct {
	Name, Value string
}

func (f Flag) String() string { return "--" + f.Name + "=" + f.Value }

// AnnotationClientURLs is the annotation that tells kubeadm etcd's client URL: Config.ClientURL.
const AnnotationClientURLs = "kubeadm.kubernetes.io/etcd.advertise-client-urls"
