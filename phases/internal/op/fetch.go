package op

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// ReadObject reads a small object of a store, such as a sidecar.
func ReadObject(ctx context.Context, store StoreReader, name string) ([]byte, error) {
	return readObject(ctx, store, name, mostSidecar)
}

// ParseSidecar reads a sidecar. One that does not say which snapshot it describes, as an empty
// object, is none, nor is one of none at all.
func ParseSidecar(data []byte) (s SidecarFile, err error) {
	err = json.Unmarshal(data, &s)
	switch {
	case err != nil:
	case s.SHA256 == "":
		err = errors.New("it does not say which snapshot it describes")
	case s.Revision < 0 || s.Keys < 0 || s.SizeBytes < 0 || s.Sealed != nil && s.Sealed.SizeBytes < 0:
		err = errors.New("it describes no snapshot: it has a negative number")
	}
	return s, err
}

// Fetch writes a sealed backup from a store to a path of the node: it has its name there once it is
// what its sidecar says. The signature, and last the sidecar, come after it. Nothing is replaced.
func Fetch(
	ctx context.Context, fsys node.FS, store StoreReader, name, at string, sidecar, sig []byte,
	progress func(done, total int64),
) error {
	s, err := ParseSidecar(sidecar)
	if err != nil {
		return err
	}
	for _, file := range []string{at, SignatureOf(at), SidecarOf(at)} {
		if _, err := fsys.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, fmt.Errorf("%s is there already, and nothing is overwritten", file))
		}
	}
	from, err := store.Open(ctx, name)
	if err != nil {
		return err
	}
	defer from.Close()
	// On a machine that is new, nothing has made it yet.
	if err := node.MkdirAll(fsys, path.Dir(at), node.Mine(0o700)); err != nil {
		return err
	}
	if err := node.Receive(ctx, fsys, at, from, s.Sealed.SizeBytes, s.Sealed.SHA256, progress); err != nil {
		return err
	}
	if sig != nil {
		if err := node.WriteNew(fsys, SignatureOf(at), sig, node.Mine(0o600)); err != nil {
			return err
		}
	}
	return node.WriteNew(fsys, SidecarOf(at), sidecar, node.Mine(0o600))
}
