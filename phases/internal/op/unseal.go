package op

import (
	"context"
	"fmt"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
)

// UnsealSnapshot writes the snapshot that is inside a sealed backup into the run's folder. It gets
// its name only once it is whole and durable, and has the SHA-256 that was proven.
type UnsealSnapshot struct {
	File string `json:"file"`
	// The file of the secret key that opens it; the key itself is in no journal. Empty: the backup
	// is only compressed.
	Identity  string `json:"identity,omitempty"`
	Snapshot  string `json:"snapshot"` // in the run's folder
	SHA256    string `json:"sha256"`   // hex, of the snapshot
	SizeBytes int64  `json:"sizeBytes"`
	// Sent says that the coordinator unseals it, and sends it before the data is staged: here it
	// only goes again when the run is undone.
	Sent bool `json:"sent,omitempty"`
}

func (u *UnsealSnapshot) String() string {
	if u.Sent {
		return "expect the unsealed snapshot as " + u.Snapshot
	}
	return fmt.Sprintf("unseal %s into %s", u.File, u.Snapshot)
}

func (u *UnsealSnapshot) Do(ctx context.Context, t *Target) error {
	if done, err := u.Done(ctx, t); done || err != nil {
		return err
	}
	if err := u.unseal(ctx, t); err != nil {
		return fmt.Errorf("cannot unseal %s: %w", u.File, err)
	}
	return nil
}

func (u *UnsealSnapshot) unseal(ctx context.Context, t *Target) error {
	var ids []sealed.Identity
	if u.Identity != "" {
		data, err := t.Host.FS.ReadFile(u.Identity)
		if err != nil {
			return fmt.Errorf("the identity is needed until the snapshot is in the run's folder: put %s back: %w",
				u.Identity, err)
		}
		if ids, err = sealed.ParseIdentities(data); err != nil {
			return fmt.Errorf("%s: %w", u.Identity, err)
		}
	}
	in, err := t.Host.FS.Open(u.File)
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := sealed.Open(in, ids, u.SizeBytes)
	if err != nil {
		return err
	}
	defer r.Close()
	return node.Receive(ctx, t.Host.FS, u.Snapshot, r, u.SizeBytes, u.SHA256, t.progress)
}

func (u *UnsealSnapshot) Undo(_ context.Context, t *Target) error {
	return dropUnsealed(t, u.Snapshot)
}

func (u *UnsealSnapshot) Done(_ context.Context, t *Target) (bool, error) {
	if u.Sent {
		return true, nil
	}
	if !exists(t, u.Snapshot) {
		return false, nil
	}
	return true, syncDirs(t, u.Snapshot)
}

func (u *UnsealSnapshot) FilesOnly() bool { return true }

// DropUnsealed removes the snapshot from the run's folder, once nothing can need it: its backup is
// sealed, and so its contents shall not lie about.
type DropUnsealed struct {
	Snapshot string `json:"snapshot"`
}

func (d *DropUnsealed) String() string { return "remove the unsealed " + d.Snapshot }

func (d *DropUnsealed) Do(_ context.Context, t *Target) error { return dropUnsealed(t, d.Snapshot) }

// Undo has nothing to bring back: it is carried out behind the commit point alone.
func (d *DropUnsealed) Undo(context.Context, *Target) error { return nil }

func (d *DropUnsealed) Done(_ context.Context, t *Target) (bool, error) {
	if exists(t, d.Snapshot) {
		return false, nil
	}
	return true, syncDirs(t, d.Snapshot)
}

func (d *DropUnsealed) FilesOnly() bool { return true }

func dropUnsealed(t *Target, snapshot string) error {
	if err := node.DropReceived(t.Host.FS, snapshot); err != nil {
		return err
	}
	return remove(t, snapshot)
}
