package target

import (
	"context"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Dial reaches a target. Only SFTP is connected to then; the others are with each operation. Paths
// of file: are host paths.
func Dial(ctx context.Context, u URL, disk node.FS) (Store, error) {
	switch u.Scheme {
	case "s3":
		return store(dialS3(u))
	case "azblob":
		return store(dialAzure(u))
	case "sftp":
		return store(dialSFTP(ctx, u))
	}
	return file{u, disk}, nil
}

// store keeps a nil of a concrete type out of the interface.
func store[T Store](s T, err error) (Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
