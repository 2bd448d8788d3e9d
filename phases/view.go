package phases

import (
	"context"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// View is the control-plane node that etcdpod runs on, and the cluster around it, as they can be looked
// at. Nothing can be changed through it.
type View struct {
	node.View
	Etcd Asked
	API  interface {
		Ready(ctx context.Context, a op.APIAccess) error
	}
	Config node.KubeletConfig // of the kubelet
	Name   string             // of the host
	Access AccessFlags
	Emit   func(Event) // told how far a long look is
}

// Asked are the questions to etcd whose answers change nothing.
type Asked interface {
	// Listening says whether anything accepts connections at a URL.
	Listening(ctx context.Context, url string) bool
	// Serving returns the etcd that answers a linearizable read at the first endpoint. Its keys are
	// counted as of a revision, 0 for now.
	Serving(ctx context.Context, a op.Access, at int64) (op.Answer, error)
	// HashKV returns the hash of the keys of the first endpoint's own member up to a revision, and the
	// revision that the member is compacted to.
	HashKV(ctx context.Context, a op.Access, revision int64) (hash uint32, compacted int64, err error)
}

// AccessFlags are what the command line says of how to reach etcd. Certificates are paths of this process.
type AccessFlags struct {
	Endpoints         []string
	CACert, Cert, Key string
}

// bound is the real etcd on this node.
func (n *View) bound() boundEtcd { return etcdOf(n.FS) }
