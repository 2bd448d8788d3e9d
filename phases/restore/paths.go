package restore

import (
	"path"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Paths in the run's folder.
func receiptPath(f *Facts) string { return path.Join(journal.RunDir(f.Run), "staged.json") }

func parkingDir(f *Facts) string { return path.Join(journal.RunDir(f.Run), "manifests") }

// parked is where a manifest is while it must not run.
func parked(f *Facts, m observe.ManifestFile) string {
	return path.Join(parkingDir(f), path.Base(m.Path))
}

func madeSnapshot(run string) string { return path.Join(journal.RunDir(run), "snapshot.db") }

func proofPath(run string) string { return path.Join(journal.RunDir(run), "proof.json") }

func (o restorer) snapshotPath(f *Facts) string {
	if o.FromDataDir != "" || o.Shared.sends() || o.unseals(f) {
		return madeSnapshot(f.Run)
	}
	return f.Snapshot.Path
}

// liveDir is the data directory that etcd will use after the restore.
func (o restorer) liveDir(f *Facts) string {
	if o.DataDir != "" {
		return o.DataDir
	}
	return f.Etcd.DataDir
}

func stagedDir(f *Facts) string { return path.Join(f.Data.StageIn, "data") }

func stagedWALDir(f *Facts) string { return path.Join(f.Data.WALStageIn, "wal") }
