package observe

import (
	"context"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Ending is why a container of a manifest ended.
func (n *Node) Ending(ctx context.Context, m ManifestFile, c node.Container) op.Ending {
	return op.EndingOf(ctx, n.FS, n.Runtime, c, StartLimit(m, c.Name))
}
