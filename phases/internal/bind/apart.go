package bind

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Apart runs etcd's own code in another process of this program, started with args, that does
// [ServeApart].
func Apart(args []string) etcd.Apart {
	if len(args) == 0 {
		return nil
	}
	return func(ctx context.Context, files []*os.File, in func(io.Writer) error) ([]byte, error) {
		out, err := node.Again(ctx, args, files, in)
		if crashed := (*node.CrashedError)(nil); errors.As(err, &crashed) {
			return nil, &etcd.EndedError{How: crashed.How, Said: crashed.Said}
		}
		return out, err
	}
}

// ServeApart is that process.
func ServeApart(in io.Reader, out io.Writer) error { return etcd.ServeApart(in, out) }
