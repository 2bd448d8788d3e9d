package rig

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Step is a step of a procedure, with its duration.
type Step struct {
	Name string
	Took time.Duration
}

// etcdctlOnNode is how an administrator calls etcdctl on a kubeadm node.
const etcdctlOnNode = `etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
	--cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key `

// SnapshotByHand saves a snapshot with etcdctl to a path on the node. What is below
// /var/lib is the node's own.
func (n *Node) SnapshotByHand(ctx context.Context, path string) error {
	_, err := n.Exec(ctx, "sh", "-ec", etcdctlOnNode+"snapshot save "+path)
	return err
}

// RestoreByHand restores a snapshot, at the same path on each node, on all nodes of a cluster as
// the Kubernetes and etcd documentation says, without a pause between steps: it is the yardstick
// for etcdpod. Each step runs on all nodes at once, which no person could do. It returns when the
// manifests are back; the control planes come up afterwards. The old data stays beside the new.
func RestoreByHand(ctx context.Context, snapshot string, nodes ...*Node) ([]Step, error) {
	var members []string
	for _, n := range nodes {
		members = append(members, fmt.Sprintf("%s=https://%s:2380", n.Name, n.Address))
	}
	token := fmt.Sprintf("by-hand-%d", time.Now().UnixNano())
	var steps []Step
	for _, step := range []struct {
		name   string
		script func(*Node) string
	}{
		{"manifests out", always(`mkdir -p /etc/kubernetes/stopped
			mv /etc/kubernetes/manifests/kube-apiserver.yaml /etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/stopped/`)},
		{"containers gone", always(`while pgrep -x kube-apiserver || pgrep -x etcd; do sleep 0.1; done >/dev/null`)},
		{"etcdutl snapshot restore", func(n *Node) string {
			return fmt.Sprintf(`rm -rf /var/lib/etcd-new
				etcdutl snapshot restore %s --data-dir=/var/lib/etcd-new --name=%s --initial-cluster=%s --initial-cluster-token=%s \
					--initial-advertise-peer-urls=https://%s:2380 --bump-revision=1000000000 --mark-compacted`,
				snapshot, n.Name, strings.Join(members, ","), token, n.Address)
		}},
		{"data exchanged", always(`mv /var/lib/etcd /var/lib/etcd-old-$(date +%s%N)
			mv /var/lib/etcd-new /var/lib/etcd`)},
		{"manifests back", always(`mv /etc/kubernetes/stopped/etcd.yaml ` +
			`/etc/kubernetes/stopped/kube-apiserver.yaml /etc/kubernetes/manifests/`)},
	} {
		start := time.Now()
		if err := onAll(ctx, nodes, step.script); err != nil {
			return steps, fmt.Errorf("cannot restore by hand: %s: %w", step.name, err)
		}
		steps = append(steps, Step{step.name, time.Since(start)})
	}
	return steps, nil
}

func always(script string) func(*Node) string { return func(*Node) string { return script } }

// onAll runs a script on all nodes at once.
func onAll(ctx context.Context, nodes []*Node, script func(*Node) string) error {
	errs := make([]error, len(nodes))
	var running sync.WaitGroup
	for i, n := range nodes {
		running.Go(func() { _, errs[i] = n.Exec(ctx, "sh", "-ec", script(n)) })
	}
	running.Wait()
	return errors.Join(errs...)
}
