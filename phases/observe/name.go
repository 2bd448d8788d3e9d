package observe

import (
	"cmp"
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/pki"
)

// KubeName is the node's name as kubeadm gives it: etcd's --name, else what kubeadm tells the
// kubelet, else the host's name.
func (n *Node) KubeName() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	files, err := n.Manifests(ctx, n.Config.StaticPodPath)
	if err != nil {
		return "", err
	}
	return n.NameIn(files), nil
}

// NameIn is [Node.NameOf] for a node with these manifests.
func (n *Node) NameIn(files []ManifestFile) string {
	pod, err := n.EtcdPod(files)
	if err != nil {
		pod = nil // its manifest tells nothing
	}
	return n.NameOf(pod)
}

// NameOf is the name of the node on which a manifest runs etcd, or none does: etcd's --name; else,
// since a run may have taken that manifest out, what an open run calls the node; else the name that
// its kubelet has, or that its last run had. A host may be called otherwise.
func (n *Node) NameOf(pod *EtcdPod) string {
	if pod != nil {
		return pod.Name
	}
	open, err := engine.OpenRun(n.FS)
	if err == nil && open.Node != "" {
		return open.Node
	}
	return cmp.Or(n.kubeletsName(), n.Config.Hostname, engine.LastNode(n.FS), n.Name)
}

// kubeletsNode is what the kubelet calls the node (cmd/kubelet/app/server.go: getNodeName).
func (n *Node) kubeletsNode() string {
	return cmp.Or(n.kubeletsName(), n.Config.Hostname, strings.ToLower(n.Name))
}

// kubeletsName is what the node's certificate for its API server calls it; empty when it has none.
func (n *Node) kubeletsName() string {
	leaf, err := n.KubeconfigLeaf(cmp.Or(n.Config.Kubeconfig, KubeconfigPath("kubelet.conf")), "")
	if err != nil || leaf == nil || leaf.Cert == nil {
		return ""
	}
	c, err := pki.Inspect(leaf.CertFile, leaf.Cert, n.Clock.Now())
	if err != nil {
		return ""
	}
	name, ok := strings.CutPrefix(c.Subject, "system:node:")
	if !ok {
		return ""
	}
	return name
}

// ClientsOf lists the clients connected to etcd on this node; none when that cannot be found out.
func ClientsOf(endpoint string) []string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return nil
	}
	connected, err := node.Connected(uint16(port))
	if err != nil {
		return nil
	}
	var clients []string
	for _, a := range connected {
		clients = append(clients, a.String())
	}
	return clients
}
