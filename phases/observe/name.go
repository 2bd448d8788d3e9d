package observe

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// KubeName is the node's name as kubeadm gives it: etcd's --name, else the host's name.
func (n *Node) KubeName() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	files, err := n.Manifests(ctx, n.Config.StaticPodPath)
	if err != nil {
		return "", err
	}
	if pod, err := n.EtcdPod(files); err == nil && pod != nil {
		return pod.Name, nil
	}
	// The open run may have taken the manifests out.
	if open, err := engine.OpenRun(n.FS); err == nil && open.Node != "" {
		return open.Node, nil
	}
	return n.Name, nil
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
