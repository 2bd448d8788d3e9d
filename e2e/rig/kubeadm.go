package rig

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// What nodes join with: secrets of a cluster that only this machine reaches.
const (
	joinToken      = "abcdef.0123456789abcdef"
	certificateKey = "e6a2eb8581237ab72a4f494f30285ec12a9694d750b9785706a83bfcbbbd2204"
)

// joinCluster makes the node a control plane: the first one with kubeadm init, the
// others with kubeadm join.
func (n *Node) joinCluster(ctx context.Context) error {
	verb, config, args := "join", n.JoinConfiguration(), []string{}
	if n.Index == 0 {
		verb, config, args = "init", n.initConfiguration(), []string{"--upload-certs"}
	}
	path := n.Path("/var/lib/kubeadm.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	say("%s: kubeadm %s", n.Name, verb)
	out, err := n.Exec(ctx, append([]string{"kubeadm", verb, "--config=/var/lib/kubeadm.yaml"}, args...)...)
	if err != nil {
		return fmt.Errorf("cannot make %s a control plane: %w", n.Name, err)
	}
	return os.WriteFile(n.Path("/var/log/kubeadm.log"), out, 0o600)
}

// KubeadmConfiguration is everything that kubeadm needs to know on this node, to init a
// cluster or to join one.
func (n *Node) KubeadmConfiguration() string {
	return n.initConfiguration() + "---\n" + n.JoinConfiguration()
}

// Endpoint is where clients find the cluster, HOST:PORT: the first node's API server, or a
// balancer on the bridge.
func (c *Cluster) Endpoint() string {
	if c.Balanced {
		return c.Subnet + ".1:6443"
	}
	return c.Nodes[0].Address + ":6443"
}

// initConfiguration also keeps the kubelet from deleting images where this machine's disk is nearly
// full: there is no registry to pull them from again.
func (n *Node) initConfiguration() string {
	etcd := ""
	if n.cluster.EtcdVersion != "" || len(n.cluster.EtcdArgs) > 0 {
		etcd = "etcd:\n  local:\n"
	}
	if v := n.cluster.EtcdVersion; v != "" {
		etcd += "    imageTag: " + v + etcdTagSuffix + "\n"
	}
	if len(n.cluster.EtcdArgs) > 0 {
		etcd += "    extraArgs:\n"
	}
	for _, arg := range n.cluster.EtcdArgs {
		name, value, _ := strings.Cut(arg, "=")
		etcd += fmt.Sprintf("    - name: %s\n      value: %q\n", name, value)
	}
	return n.fill(`apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens:
- token: TOKEN
  ttl: 24h0m0s
certificateKey: KEY
localAPIEndpoint:
  advertiseAddress: ADDRESS
nodeRegistration:
  name: NAME
  criSocket: unix:///run/containerd/containerd.sock
  kubeletExtraArgs:
  - name: node-ip
    value: ADDRESS
skipPhases: [preflight, addon, mark-control-plane]
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: CLUSTER
kubernetesVersion: vVERSION
controlPlaneEndpoint: ENDPOINT
ADDONScontrollerManager:
  extraArgs:
  - name: flex-volume-plugin-dir
    value: /var/lib/kubelet/volumeplugins
ETCD---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: [none]
failSwapOn: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%}
volumePluginDir: /var/lib/kubelet/volumeplugins
`, etcd)
}

// addons keeps kubeadm from addons for which no machine has an image, where it
// does not skip the phase.
func (n *Node) addons() string {
	if !n.cluster.Bare {
		return ""
	}
	return "dns:\n  disabled: true\nproxy:\n  disabled: true\n"
}

// JoinConfiguration is what kubeadm needs to know to make this node a further control plane.
func (n *Node) JoinConfiguration() string {
	return n.fill(`apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  bootstrapToken:
    token: TOKEN
    apiServerEndpoint: ENDPOINT
    unsafeSkipCAVerification: true
controlPlane:
  certificateKey: KEY
  localAPIEndpoint:
    advertiseAddress: ADDRESS
nodeRegistration:
  name: NAME
  criSocket: unix:///run/containerd/containerd.sock
  kubeletExtraArgs:
  - name: node-ip
    value: ADDRESS
skipPhases: [preflight]
`, "")
}

func (n *Node) fill(text, etcd string) string {
	return strings.NewReplacer(
		"TOKEN", joinToken, "KEY", certificateKey, "ADDRESS", n.Address, "NAME", n.Name, "CLUSTER", n.cluster.Name,
		"VERSION", binaries.KubernetesVersion, "ENDPOINT", n.cluster.Endpoint(), "ETCD", etcd, "ADDONS", n.addons(),
	).Replace(text)
}
