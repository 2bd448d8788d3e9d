package observe

import (
	"context"
)

// HashAnswer is what the member on a node serves, as of a revision.
type HashAnswer struct {
	Member    bool // false: no etcd here
	ClusterID uint64
	Revision  int64 // the present one
	Hash      uint32
	Compacted int64
}

// OwnHash is the HashKV of the member on this node.
func (n *Node) OwnHash(ctx context.Context, revision int64) (h HashAnswer, err error) {
	files, err := n.Manifests(n.Config.StaticPodPath)
	if err != nil {
		return h, err
	}
	pod, err := n.EtcdPod(files)
	if err != nil || pod == nil {
		return h, err
	}
	h.Member = true
	h.Hash, h.Compacted, err = n.Etcd.HashKV(ctx, pod.Access, revision)
	return h, err
}
