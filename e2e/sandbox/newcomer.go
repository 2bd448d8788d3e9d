package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// KubeadmFile is the host path of kubeadm's configuration on a newcomer.
const KubeadmFile = "/etc/kubernetes/kubeadm.yaml"

// Newcomer makes a machine that is to become a further control plane, as the first part of `kubeadm
// join` leaves it: it has a runtime, a kubelet that runs nothing yet, the cluster's CAs, and
// kubeadm's configuration.
func (c *ControlPlanes) Newcomer(ctx context.Context, o Options, name string) (*Sandbox, error) {
	o.Node, o.Address, o.NoAPIServer = name, fmt.Sprintf("127.0.0.%d", len(c.Nodes)+2), true
	o.Join = c.Nodes[0]
	s, err := New(o)
	if err != nil {
		return nil, err
	}
	c.Nodes = append(c.Nodes, s)
	if err := c.writePrograms(s); err != nil {
		return nil, err
	}
	return s, s.Reinstall(ctx)
}

// Reinstall makes a newcomer of a node on which nothing runs; name, address and ports stay.
func (s *Sandbox) Reinstall(ctx context.Context) error {
	var gone []string
	for _, pattern := range []string{ManifestDir + "/*", DataDir + "/*", "/var/lib/etcdpod/*", pkiDir + "/etcd/*",
		pkiDir + "/apiserver-etcd-client.*"} {
		found, err := filepath.Glob(s.Path(pattern))
		if err != nil {
			return err
		}
		gone = append(gone, found...)
	}
	for _, name := range gone {
		if base := filepath.Base(name); base == "ca.crt" || base == "ca.key" {
			continue
		}
		if err := os.RemoveAll(name); err != nil {
			return err
		}
	}
	return errors.Join(
		s.write(KubeadmFile, []byte(s.JoinConfiguration()+"---\n"+s.ClusterConfiguration()), 0o600),
		// As kubeadm does where the host has another name.
		s.write("/var/lib/kubelet/kubeadm-flags.env", []byte("KUBELET_KUBEADM_ARGS=\"--hostname-override="+s.Node+
			"\"\n"), 0o644),
		s.StartRuntime(ctx), s.StartKubelet(ctx))
}

// JoinConfiguration is kubeadm's, for this node.
func (s *Sandbox) JoinConfiguration() string {
	return fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
nodeRegistration:
  name: %s
controlPlane:
  localAPIEndpoint:
    advertiseAddress: 10.0.0.11
discovery:
  bootstrapToken:
    apiServerEndpoint: 10.0.0.10:6443
    token: abcdef.0123456789abcdef
    unsafeSkipCAVerification: true
`, s.Node)
}

// ClusterConfiguration is kubeadm's, with the ports of the sandbox.
func (s *Sandbox) ClusterConfiguration() string {
	client := fmt.Sprintf("https://%s:%d", s.Address, s.Ports.EtcdClient)
	var args strings.Builder
	for _, arg := range [][2]string{
		{"advertise-client-urls", client}, {"listen-client-urls", s.ClientURL() + "," + client},
		{"initial-advertise-peer-urls", s.PeerURL()},
		{"listen-peer-urls", s.PeerURL()}, {"listen-metrics-urls",
			fmt.Sprintf("http://127.0.0.1:%d", s.Ports.EtcdMetrics)},
	} {
		fmt.Fprintf(&args, "    - name: %s\n      value: %s\n", arg[0], arg[1])
	}
	kubernetes := "v1.37.2"
	// Later kubeadms give etcd flags that it does not know.
	if strings.HasPrefix(s.EtcdVersion, "3.5.") {
		kubernetes = "v1.34.4"
	}
	return fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: %s
encryptionAlgorithm: ECDSA-P256
etcd:
  local:
    imageTag: %s-0
    serverCertSANs: [%s]
    peerCertSANs: [%s]
    extraArgs:
%s`, kubernetes, s.EtcdVersion, s.Address, s.Address, args.String())
}
