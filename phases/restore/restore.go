package restore

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Options are the options of `restore`. Paths are host paths, except File, which is a path of this
// process.
type Options struct {
	File          string
	FromDataDir   string
	FromWALDir    string // where FromDataDir's WAL is, if not in member/wal
	UpToHole      bool   // of FromDataDir, take what stands before raft entries that are missing
	SkipHashCheck bool
	Bump          int64         // revisions to bump by; 0: computed
	DataDir       string        // a new data directory; empty: keep the current one
	StopTimeout   time.Duration // for the kubelet, containers and processes to stop
	// For etcd, then for the API server, to serve; 0: grows with the size.
	WaitTimeout time.Duration
	// The API servers elsewhere that the data knows of are stopped.
	APIServersStopped bool
	// The files of the backup's cluster are not this node's, and a person knows why. What only they
	// can decrypt is restored unreadable: that some keys are lost must not mean that everything is.
	OtherPKI bool
	// How a sealed backup is opened, and whose signature is believed.
	Unsealing backup.Unsealing
}

// restorer plans a restore from a person's options and, on several nodes, from what was settled for
// all of them.
type restorer struct {
	Options
	Shared *Shared `json:",omitempty"` // nil: this node alone
	// Of several nodes, this is the one that has the sealed backup, and unseals it.
	Unseals bool `json:",omitempty"`
}

// Workflow is the workflow that replaces etcd's data on this node with a snapshot, or with the data
// of a stopped member.
func Workflow(o Options) workflow { return restorer{Options: o}.workflow() }

// Check refuses options that make no sense by themselves.
func (o Options) Check() error {
	if o.DataDir != "" && !path.IsAbs(o.DataDir) {
		return &engine.UsageError{Reason: fmt.Sprintf("--data-dir %s is not an absolute path", o.DataDir)}
	}
	return nil
}

// workflow is the list of phases. On several nodes each node carries it out, and the transaction
// ends each phase on all of them before the next one begins on any.
func (o restorer) workflow() workflow {
	if o.DataDir != "" {
		o.DataDir = path.Clean(o.DataDir)
	}
	w := workflow{Name: "restore", Options: o.Check, Observe: o.observe, Stakes: o.stakes,
		Phases: []phase{
			o.preflight(),
			o.verifySnapshot(),
			o.stageData(),
			o.fence(),
			o.exchangeData(),
			o.releaseEtcd(),
			o.awaitEtcd(),
			o.compareMembers(), // the commit point
			o.releaseAPIServer(),
			o.awaitAPIServer(),
			o.restartComponents(),
			o.rejoin(), // on several nodes only
			o.verifyRestored(),
		}}
	if o.Shared == nil {
		w.Phases = slices.DeleteFunc(w.Phases, func(p phase) bool { return p.Name == "rejoin" })
	}
	return w
}

// WayBack says how to return to the data that a restore replaced, by a run of its own.
func WayBack(run journal.Run) string {
	command := takingBack(run.Notes, run.Cluster)
	if command == "" {
		return ""
	}
	return fmt.Sprintf("to go back to the replaced data, run `%s`", command)
}

// takingBack is the command for that, on the node whose notes they are. It restores all nodes of
// the cluster; empty if the run replaces no data there, or what no restore takes.
func takingBack(notes map[string]string, cluster *journal.Cluster) string {
	kept := Options{FromDataDir: notes[journal.NoteKeptData], FromWALDir: notes[journal.NoteKeptWAL]}
	if kept.FromDataDir == "" || notes[journal.NoteKeptNoDB] != "" {
		return ""
	}
	var nodes []string
	if cluster != nil {
		for _, at := range cluster.Nodes {
			nodes = append(nodes, at.Typed())
		}
	}
	return kept.onNodes(nodes, nil)
}

// minBump is large enough that no revision which a watch cache or an informer may still hold is
// used twice, even if much was written after the last known revision.
const minBump = 1_000_000_000

// waitLimit is how long a healthy etcd may take. 0.9 GB took 20 s on two cores, and disks differ.
func (o restorer) waitLimit(sizeBytes int64) time.Duration {
	if o.WaitTimeout > 0 {
		return o.WaitTimeout
	}
	const gigabyte = 1 << 30
	return (2*time.Minute + time.Duration(float64(sizeBytes)/gigabyte*float64(3*time.Minute))).Round(10 * time.Second)
}

func (o restorer) verifySnapshot() phase {
	return phase{Name: "verify-snapshot", Short: "verify what will be restored",
		Found: o.foundSnapshot, Findings: o.warnedOfSnapshot,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if ops := o.unsealing(f); len(ops) > 0 {
				return ops, nil
			}
			if o.FromDataDir == "" {
				// Proven while the facts were gathered; staging checks its SHA-256 again.
				return nil, nil
			}
			snapshot := o.snapshotPath(f)
			return []op.Op{
				&op.SnapshotDataDir{Dir: o.FromDataDir, WALDir: o.FromWALDir, Snapshot: snapshot, UpToHole: o.UpToHole,
					Copied: f.Snapshot.Copied},
				&op.ProveSnapshot{Snapshot: snapshot, Proof: proofPath(f.Run)},
			}, nil
		}}
}

func (o restorer) foundSnapshot(f *Facts) []string {
	if o.FromDataDir != "" {
		return nil
	}
	s := f.Snapshot
	proven := fmt.Sprintf("verified: %d keys at revision %d, %s, SHA-256 %s",
		s.Proof.Keys, s.Proof.Revision, engine.Size(s.Proof.SizeBytes), s.Proof.SHA256)
	if o.SkipHashCheck {
		proven = fmt.Sprintf("verified, only page structure and keys: %d keys at revision %d, %s",
			s.Proof.Keys, s.Proof.Revision, engine.Size(s.Proof.SizeBytes))
	}
	if s.Sidecar != nil {
		proven += ", taken " + s.Sidecar.TakenAt.Format(time.RFC3339)
	}
	if s.Sealed {
		return []string{proven, fmt.Sprintf("until the commit point the unsealed snapshot is in %s",
			madeSnapshot(f.Run))}
	}
	return []string{proven}
}

// warnedOfSnapshot says what is not known of the snapshot, or not in it.
func (o restorer) warnedOfSnapshot(f *Facts) (warned []finding.Finding) {
	if o.FromDataDir == "" && o.SkipHashCheck {
		return []finding.Finding{finding.New(finding.HashNotCompared, f.Snapshot.Path, "no SHA-256 was compared")}
	}
	if o.FromDataDir != "" {
		for _, said := range f.Snapshot.Caveats {
			warned = append(warned, finding.New(finding.BackupIncomplete, o.FromDataDir, "%s", said))
		}
		if copied := f.Snapshot.Copied; copied != "" {
			warned = append(warned, finding.New(finding.BackupIncomplete, o.FromDataDir, "%s", copied))
		}
	}
	return warned
}

func (o restorer) stageData() phase {
	return phase{Name: "stage-data", Short: "prepare the new data next to the old, while etcd serves",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if !o.restores(f) {
				return nil, nil
			}
			ops := o.makeDirectories(f)
			stage := &op.StageData{Staging: o.staging(f), Dir: stagedDir(f), Receipt: receiptPath(f), Attr: f.Data.Attr}
			if f.Etcd.WALDir != "" {
				stage.WALDir = stagedWALDir(f)
			}
			return append(ops, stage), nil
		}}
}

// makeDirectories plans the missing directories: the data directory, if it is new or gone, and
// places to stage in.
func (o restorer) makeDirectories(f *Facts) []op.Op {
	var ops []op.Op
	mkdir := func(dir string) {
		attr := f.Data.Attr
		attr.Mode = 0o700
		ops = append(ops, &op.MakeDirectory{Path: dir, Attr: attr})
	}
	if !f.Data.DirExists {
		mkdir(o.liveDir(f))
	}
	run := journal.RunDir(f.Run)
	if f.Data.StageIn != run {
		mkdir(f.Data.StageIn)
	}
	if f.Data.WALStageIn != "" && f.Data.WALStageIn != run && f.Data.WALStageIn != f.Data.StageIn {
		mkdir(f.Data.WALStageIn)
	}
	return ops
}

func (o restorer) staging(f *Facts) op.Staging {
	s := op.Staging{
		Snapshot: o.snapshotPath(f), Proof: f.Snapshot.Proof,
		SkipHashCheck: o.SkipHashCheck, Name: f.Etcd.Name, PeerURLs: f.Etcd.PeerURLs,
		InitialCluster: initialCluster([]SharedMember{{Name: f.Etcd.Name, PeerURLs: f.Etcd.PeerURLs}}),
		// A fresh token gives the cluster a new id: a member of the old cluster that comes back
		// cannot talk to it.
		Token:       "etcdpod-" + f.Run,
		MinRevision: f.KnownRevision + minBump, MinBump: minBump,
	}
	if o.Shared != nil {
		s.InitialCluster, s.MinRevision, s.Compare = initialCluster(o.Shared.Members),
			o.Shared.KnownRevision+minBump, true
	}
	if o.FromDataDir != "" || o.Shared.made() {
		s.ProofFile = proofPath(f.Run)
	}
	if o.Bump > 0 {
		s.MinRevision, s.MinBump = 0, o.Bump
	}
	return s
}

func (o restorer) exchangeData() phase {
	return phase{Name: "exchange-data", Short: "swap the old and the new data in one step",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if f.Etcd == nil {
				return nil, nil
			}
			if o.rejoins(f) {
				return o.moveAside(f), nil
			}
			staged := path.Join(stagedDir(f), "member")
			data := op.Exchange{Fence: o.fenceOf(f), Live: path.Join(o.liveDir(f), "member"),
				Staged: staged, Park: staged + ".park"}
			switch {
			case f.Data.WALMount:
				return []op.Op{&op.ExchangeBoth{Data: data, Contents: o.exchangeWALInside(f)}}, nil
			case f.Etcd.WALDir != "":
				return []op.Op{&op.ExchangeBoth{Data: data, Log: &op.Exchange{
					Live: f.Etcd.WALDir, Staged: stagedWALDir(f), Park: stagedWALDir(f) + ".park"}}}, nil
			}
			return []op.Op{&data}, nil
		}}
}

// exchangeWALInside is for a WAL whose directory is a mount point, which nothing can rename.
func (o restorer) exchangeWALInside(f *Facts) *op.ExchangeContents {
	return &op.ExchangeContents{Fence: o.fenceOf(f),
		Live: f.Etcd.WALDir, Staged: stagedWALDir(f), Park: stagedWALDir(f) + ".park"}
}
