package observe

import (
	"context"
)

// HashAnswer is what a node's member serves, as of a revision.
type HashAnswer struct {
	Member    bool // false: no etcd here
	ClusterID uint64
	Revision  int64 // the current one
	Hash      uint32
	Compacted int64
}

// OwnHash returns the HashKV of this node's member.
func (n *Node) OwnHash(ctx context.Context, revision int64) (h HashAnswer, err error) {
	files, err := n.Manifests(ctx, n.Config.StaticPodPath)
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
