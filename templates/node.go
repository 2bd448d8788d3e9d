package templates

import (
	"cmp"
	"errors"
	"net"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1"
	netutils "k8s.io/utils/net"
)

// nodeSource is what InitConfiguration and JoinConfiguration both say about a node.
type nodeSource struct {
	kind         string
	registration *kubeadm.NodeRegistrationOptions
	endpoint     *kubeadm.APIEndpoint
	endpointPath *field.Path
	patches      *kubeadm.Patches
	timeouts     *kubeadm.Timeouts
}

func (s *sources) node(join bool) nodeSource {
	if join {
		if s.join.ControlPlane == nil {
			s.join.ControlPlane = &kubeadm.JoinControlPlane{}
		}
		kubeadm.SetObjectDefaults_JoinConfiguration(&s.join)
		j := &s.join
		return nodeSource{joinKind, &j.NodeRegistration, &j.ControlPlane.LocalAPIEndpoint,
			field.NewPath("controlPlane", "localAPIEndpoint"), j.Patches, j.Timeouts}
	}
	kubeadm.SetObjectDefaults_InitConfiguration(&s.init)
	i := &s.init
	return nodeSource{initKind, &i.NodeRegistration, &i.LocalAPIEndpoint,
		field.NewPath("localAPIEndpoint"), i.Patches, i.Timeouts}
}

// config combines what the documents, the flags and the host say.
func (s *sources) config(o Options) (*Config, error) {
	node := s.node(o.Join)
	kubeadm.SetObjectDefaults_ClusterConfiguration(&s.cluster)
	o.over(&s.cluster, &node)
	c := &Config{
		Warnings: s.warnings,
		// component-helpers, node/util: GetHostname.
		NodeName: strings.ToLower(strings.TrimSpace(cmp.Or(o.NodeName,
			node.registration.Name, o.Hostname))),
		CertificatesDir:       s.cluster.CertificatesDir,
		CertificateValidity:   s.cluster.CertificateValidityPeriod.Duration,
		CACertificateValidity: s.cluster.CACertificateValidityPeriod.Duration,
		HealthCheck:           node.timeouts.ControlPlaneComponentHealthCheck.Duration,
		EtcdAPICall:           node.timeouts.EtcdAPICall.Duration,
		apiServerArgs:         s.cluster.APIServer.ExtraArgs,
	}
	if node.patches != nil {
		c.PatchesDir = node.patches.Directory
	}
	var errs []error
	for _, e := range append(c.setAddress(node, o.DefaultAddress), validateNode(c, node)...) {
		errs = append(errs, s.problem(node.kind, e))
	}
	for _, e := range append(c.setRelease(s), validateCluster(&s.cluster)...) {
		errs = append(errs, s.problem(clusterKind, e))
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	c.setEtcd(&s.cluster.Etcd, s.cluster.ImageRepository)
	c.warnOfValidity()
	return c, nil
}

// over puts flags over defaults. There is no file then.
func (o Options) over(cluster *kubeadm.ClusterConfiguration, node *nodeSource) {
	for _, f := range []struct {
		value string
		to    *string
	}{
		{o.AdvertiseAddress, &node.endpoint.AdvertiseAddress}, {o.KubernetesVersion, &cluster.KubernetesVersion},
		{o.ImageRepository, &cluster.ImageRepository}, {o.CertificatesDir, &cluster.CertificatesDir},
	} {
		*f.to = cmp.Or(f.value, *f.to)
	}
	if o.PatchesDir != "" {
		node.patches = &kubeadm.Patches{Directory: o.PatchesDir}
	}
}

// setAddress finds the address at which others reach this node (kubeadm, util/config:
// SetAPIEndpointDynamicDefaults, VerifyAPIServerBindAddress).
func (c *Config) setAddress(node nodeSource, ofHost string) field.ErrorList {
	path := node.endpointPath.Child("advertiseAddress")
	given := node.endpoint.AdvertiseAddress
	ip := netutils.ParseIPSloppy(given)
	if ip == nil && given != "" {
		return field.ErrorList{field.Invalid(path, given, "is not an IP address")}
	}
	if ip == nil || ip.IsUnspecified() {
		given, ip = ofHost, netutils.ParseIPSloppy(ofHost)
	}
	switch {
	case ip == nil:
		return field.ErrorList{
			field.Required(path, "is not set, and cannot be detected: this host has no default route"),
		}
	case !ip.IsGlobalUnicast():
		// Given a loopback address, kubeadm looks for another one; here it must be given.
		return field.ErrorList{field.Invalid(path, given, "cannot be reached from other nodes")}
	}
	c.AdvertiseAddress = ip.String()
	return nil
}

// isIPv6 says whether addresses on this host are IPv6, like the advertised one.
func (c *Config) isIPv6() bool { return netutils.IsIPv6String(c.AdvertiseAddress) }

// localhost is where etcd and the API server talk on this host.
func (c *Config) localhost() string {
	if c.isIPv6() {
		return "::1"
	}
	return "127.0.0.1"
}

func url(host, port string) string { return "https://" + net.JoinHostPort(host, port) }

// ClientURL is where clients reach this member: the annotation's value, which kubeadm derives from
// the advertised address whatever etcd's flags say.
func (c *Config) ClientURL() string { return url(c.AdvertiseAddress, clientPort) }

// PeerURL is where the other members reach this one.
func (c *Config) PeerURL() string { return url(c.AdvertiseAddress, peerPort) }

// warnOfValidity is kubeadm's ValidateCertValidity.
func (c *Config) warnOfValidity() {
	const year = 365 * 24 * time.Hour
	for _, w := range []struct {
		is   bool
		text string
	}{
		{c.CertificateValidity > year, "certificateValidityPeriod: " +
			c.CertificateValidity.String() + " is more than the recommended " + year.String()},
		{c.CACertificateValidity > 10*year, "caCertificateValidityPeriod: " +
			c.CACertificateValidity.String() + " is more than the recommended " + (10 * year).String()},
		{c.CertificateValidity > c.CACertificateValidity,
			"certificateValidityPeriod: " + c.CertificateValidity.String() +
				" is more than caCertificateValidityPeriod, " + c.CACertificateValidity.String()},
	} {
		if w.is {
			c.Warnings = append(c.Warnings, w.text)
		}
	}
}
