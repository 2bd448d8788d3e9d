package restore

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// mostRevision is a revision that no cluster gets to: at a hundred thousand writes a second it
// would take 1400 years. An account of a higher one is wrong, or forged, and to restore above it
// could bring etcd to the end of what it can count, where it dies. Sums of two such revisions do
// not overflow.
const mostRevision = 1 << 52

func plausible(revision int64) bool { return revision > 0 && revision <= mostRevision }

// known is the highest revision on record, and what did not count.
type known struct {
	revision int64
	source   string
	odd      []string
}

func (k *known) add(revision int64, source string) {
	switch {
	case plausible(revision) && revision > k.revision:
		k.revision, k.source = revision, source
	case revision > mostRevision:
		k.odd = append(k.odd, fmt.Sprintf("%s claims revision %d, which no cluster ever reaches: it is ignored",
			source, revision))
	}
}

// knownRevision is the highest revision on record: in the live etcd, its stopped data, earlier
// runs, and the backups of this cluster beside the snapshot and in the usual place.
func (o restorer) knownRevision(n *observe.Node, f *Facts) (known, error) {
	var k known
	k.add(liveRevision(f), "etcd")
	if f.LogAlone != nil {
		k.add(f.LogAlone.RevisionAtMost, "etcd's log")
	}
	if o.FromDataDir != "" {
		k.add(f.Snapshot.Revision, o.FromDataDir)
	}
	runs, err := journal.List(n.FS)
	if err != nil {
		return k, err
	}
	for _, r := range runs {
		if r.State == nil {
			continue
		}
		if rev, err := strconv.ParseInt(r.State.Run.Notes[journal.NoteRevision], 10, 64); err == nil {
			k.add(rev, "the run "+r.ID)
		}
		// A restore hands out revisions above the one that it bumped to.
		var staged op.Staged
		if observe.ReadJSON(n.FS, path.Join(journal.RunDir(r.ID), "staged.json"), &staged) == nil {
			k.add(staged.Revision, "the run "+r.ID)
		}
	}
	dirs := []string{journal.BackupsDir}
	if o.File != "" {
		dirs = append(dirs, path.Dir(f.Snapshot.Path))
	}
	for _, dir := range slices.Compact(dirs) {
		k.addBackups(n, f, dir)
	}
	return k, nil
}

// addBackups counts only what this node's root wrote about this cluster: whoever could write one
// number into a directory would otherwise decide which revisions the cluster has from then on.
func (k *known) addBackups(n *observe.Node, f *Facts, dir string) {
	own, foreign := backup.Sidecars(n, dir)
	for _, s := range own {
		if s.Revision > k.revision && sameCluster(f, s) {
			k.add(s.Revision, op.SidecarOf(s.Path))
		}
	}
	for _, name := range foreign {
		k.odd = append(k.odd, fmt.Sprintf("others may have written %s: its revision is ignored", name))
	}
}

// sameCluster says whether a backup is of the cluster that is restored. A restore gives a cluster a
// new id, and keeps its CAs. With nothing to compare with, it is.
func sameCluster(f *Facts, s backup.Sidecar) bool {
	ids, prints := clusterIDs(f), maps.Clone(f.Fingerprints)
	if own := f.Snapshot.Sidecar; own != nil {
		for file, sum := range own.Fingerprints {
			if prints[file] == "" && sum != "" {
				if prints == nil {
					prints = map[string]string{}
				}
				prints[file] = sum
			}
		}
	}
	return op.ShareFile(s.Fingerprints, prints) || len(ids)+len(prints) == 0 || slices.Contains(ids, s.ClusterID)
}

func clusterIDs(f *Facts) (ids []string) {
	if f.Live != nil {
		ids = append(ids, fmt.Sprintf("%x", f.Live.ClusterID))
	}
	if f.Stopped != nil {
		ids = append(ids, fmt.Sprintf("%x", f.Stopped.ClusterID))
	}
	if f.Snapshot.Sidecar != nil {
		ids = append(ids, f.Snapshot.Sidecar.ClusterID)
	}
	return ids
}

// liveRevision is etcd's own, or that of its stopped data; 0 when neither can be read.
func liveRevision(f *Facts) (revision int64) {
	if f.Stopped != nil {
		revision = f.Stopped.Revision
	}
	if f.Live != nil {
		revision = max(revision, f.Live.Revision)
	}
	return revision
}

// checkBump refuses a bump that ends below what clients have already seen, and one that brings etcd
// near the end of what it can count.
func (o restorer) checkBump(f *Facts) error {
	from := f.Snapshot.Proof.Revision
	if from > mostRevision {
		return engine.Refuse("restore an older backup",
			"the snapshot is at revision %d: etcd cannot count much further, and crashes at the limit", from)
	}
	if o.Bump == 0 {
		return nil
	}
	if o.Bump > mostRevision {
		return engine.Refuse(fmt.Sprintf("use at most %d", int64(mostRevision)),
			"--bump-revision %d brings etcd close to the highest revision, at which it crashes", o.Bump)
	}
	seen, by := f.KnownRevision, f.KnownFrom
	if now := liveRevision(f); plausible(now) && now >= seen {
		seen, by = now, "etcd"
	}
	if o.Shared != nil && o.Shared.KnownRevision > seen {
		seen, by = o.Shared.KnownRevision, "another node"
	}
	if from+o.Bump > seen {
		return nil
	}
	return engine.Refuse(fmt.Sprintf("leave out --bump-revision, or use %d or more", seen-from+minBump),
		"--bump-revision %d ends at revision %d, but %s shows revision %d: clients would see revisions go backwards",
		o.Bump, from+o.Bump, by, seen)
}
