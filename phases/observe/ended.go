package observe

import (
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// LastWords are why a container ended, as its log tells it.
func (n *Node) LastWords(c node.Container) op.LastWords { return op.LastWordsOf(n.FS, c) }
