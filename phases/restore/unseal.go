package restore

import (
	"context"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// A sealed backup is looked at in a file without a name, while the facts are gathered. The run
// unseals it once more, into its own folder, where staging and other nodes get it from; it goes
// again behind the commit point, or when the run is undone.

// sealedSource proves what is inside a sealed backup. It refuses early what only a person can
// help.
func (o restorer) sealedSource(
	ctx context.Context, n *observe.Node, s *backup.SealedFile, progress func(done, total int64),
) (found *SnapshotFacts, err error) {
	if o.SkipHashCheck {
		return nil, &engine.UsageError{Reason: "--skip-hash-check is for a copy of etcd's db: a sealed backup has " +
			"a SHA-256"}
	}
	if err := s.Bad(o.Unsealing.Unsigned); err != nil {
		return nil, badSealed(s.File, err)
	}
	ids, err := s.Identities(o.Unsealing.Identity)
	if err != nil {
		return nil, err
	}
	err = s.InScratch(ctx, ids, progress, func(file string) error {
		r, err := snapfile.Check(ctx, file, snapfile.Options{Steps: backup.StepsIn(s.Sidecar), Progress: progress})
		if err != nil {
			return err
		}
		found = snapshotFacts(r)
		return backup.Against(r, s.Sidecar, nil, false)
	})
	if err != nil {
		return nil, badSealed(s.File, err)
	}
	found.Path, found.Sealed, found.Identity = s.File, true, o.Unsealing.Identity
	if st, err := n.FS.Lstat(s.File); err == nil {
		found.ModTime = st.ModTime
	}
	if s.Sidecar != nil {
		found.Sidecar = &s.Sidecar.Sidecar
	}
	return found, nil
}

// badSealed says where better ones are.
func badSealed(file string, err error) error {
	if !engine.IsBadSnapshot(err) {
		return err
	}
	return engine.WithHint(err, "take another backup: `etcdpod backups` lists them, and `etcdpod verify "+file+
		"` says what is wrong with this one")
}

// unseals says whether this node unseals the backup: on several, the coordinator does, and sends
// the snapshot to the others.
func (o restorer) unseals(f *Facts) bool {
	return f.Snapshot != nil && f.Snapshot.Sealed && (o.Shared == nil || o.Unseals)
}

// unsealing plans it, or that what another node has unsealed will come.
func (o restorer) unsealing(f *Facts) []op.Op {
	switch {
	case f.Snapshot == nil || !f.Snapshot.Sealed || !o.unseals(f) && !o.Shared.sends():
		return nil
	case !o.unseals(f):
		return []op.Op{&op.UnsealSnapshot{File: f.Snapshot.Path, Snapshot: madeSnapshot(f.Run), Sent: true,
			SHA256: f.Snapshot.Proof.SHA256, SizeBytes: f.Snapshot.Proof.SizeBytes}}
	}
	return []op.Op{&op.UnsealSnapshot{File: f.Snapshot.Path, Identity: f.Snapshot.Identity,
		Snapshot: madeSnapshot(f.Run), SHA256: f.Snapshot.Proof.SHA256, SizeBytes: f.Snapshot.Proof.SizeBytes}}
}

// dropUnsealed plans that the snapshot goes again from this node, if the run has put it there.
func (o restorer) dropUnsealed(f *Facts) []op.Op {
	if len(o.unsealing(f)) == 0 {
		return nil
	}
	return []op.Op{&op.DropUnsealed{Snapshot: madeSnapshot(f.Run)}}
}
