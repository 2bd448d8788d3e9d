package rig

import (
	"context"
	"fmt"
	"time"
)

// Step is a step of a procedure, and how long it took.
type Step struct {
	Name string
	Took time.Duration
}

// etcdctlOnNode is how an administrator calls etcdctl on a kubeadm node.
const etcdctlOnNode = `etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
	--cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key `

// SnapshotByHand saves a snapshot to a path on the node with etcdctl. What is below /var/lib is the node's own.
func (n *Node) SnapshotByHand(ctx context.Context, path string) error {
	_, err := n.Exec(ctx, "sh", "-ec", etcdctlOnNode+"snapshot save "+path)
	return err
}

// RestoreByHand restores a snapshot on the only node of a cluster as the documentation of Kubernetes and etcd has it, without a moment's
// thought between two steps: it is what etcdpod is measured against. It returns when the manifests are back; the control plane comes up after
// that. The old data is left beside the new.
func (n *Node) RestoreByHand(ctx context.Context, snapshot string) ([]Step, error) {
	var steps []Step
	for _, step := range []struct{ name, script string }{
		{"manifests out", `mkdir -p /etc/kubernetes/stopped
			mv /etc/kubernetes/manifests/kube-apiserver.yaml /etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/stopped/`},
		{"containers gone", `while pgrep -x kube-apiserver || pgrep -x etcd; do sleep 0.1; done >/dev/null`},
		{"etcdutl snapshot restore", fmt.Sprintf(`rm -rf /var/lib/etcd-new
			etcdutl snapshot restore %s --data-dir=/var/lib/etcd-new --name=%s --initial-cluster=%[2]s=https://%s:2380 \
				--initial-advertise-peer-urls=https://%[3]s:2380 --bump-revision=1000000000 --mark-compacted`, snapshot, n.Name, n.Address)},
		{"data exchanged", `mv /var/lib/etcd /var/lib/etcd-old-$(date +%s%N)
			mv /var/lib/etcd-new /var/lib/etcd`},
		{"manifests back", `mv /etc/kubernetes/stopped/etcd.yaml /etc/kubernetes/stopped/kube-apiserver.yaml /etc/kubernetes/manifests/`},
	} {
		start := time.Now()
		if _, err := n.Exec(ctx, "sh", "-ec", step.script); err != nil {
			return steps, fmt.Errorf("cannot restore by hand: %s: %w", step.name, err)
		}
		steps = append(steps, Step{step.name, time.Since(start)})
	}
	return steps, nil
}
