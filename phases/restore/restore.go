package restore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Options are what a person may ask of `restore`. Paths are host paths, but for File, which is a
// path of this process.
type Options struct {
	File          string
	FromDataDir   string
	FromWALDir    string // where FromDataDir's WAL is, if not in member/wal
	SkipHashCheck bool
	Bump          int64         // revisions to bump by; 0: found out
	DataDir       string        // a new data directory; empty: the one that etcd has
	StopTimeout   time.Duration // for the kubelet, containers and processes to end
	// For etcd, then for the API server, to serve; 0: grows with the size.
	WaitTimeout time.Duration
	// API servers elsewhere that the data knows of are known to be stopped.
	APIServersStopped bool
}

// restorer plans a restore: with what a person asked for and, on several nodes, what was
// settled for all of them.
type restorer struct {
	Options
	Shared *Shared `json:",omitempty"` // nil: this node alone
}

// Workflow is the workflow that puts a snapshot, or the data of a stopped member, in the place of
// what etcd has on this node.
func Workflow(o Options) workflow { return restorer{Options: o}.workflow() }

// workflow is the list of phases. On several nodes each of them carries it out, and the transaction
// has each phase end on all of them before the next one begins on any.
func (o restorer) workflow() workflow {
	if o.DataDir != "" {
		o.DataDir = path.Clean(o.DataDir)
	}
	w := workflow{Name: "restore", Observe: o.observe, Phases: []phase{
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

// WayBack says how to go back to the data that a restore has replaced, as a run of its own.
func WayBack(notes map[string]string) string {
	kept := notes[journal.NoteKeptData]
	if kept == "" {
		return ""
	}
	return fmt.Sprintf("to go back to the data that it replaced, type `etcdpod restore %s`",
		journal.FromDirs(kept, notes[journal.NoteKeptWAL]))
}

// minBump keeps revisions that a watch cache or an informer may still hold from being given out
// twice, whatever happened behind the last one that is known of.
const minBump = 1_000_000_000

// waitLimit is how long a healthy etcd may take: 0.9 GB was seen to take 20 s on two
// cores, and disks differ.
func (o restorer) waitLimit(sizeBytes int64) time.Duration {
	if o.WaitTimeout > 0 {
		return o.WaitTimeout
	}
	const gigabyte = 1 << 30
	return (2*time.Minute + time.Duration(float64(sizeBytes)/gigabyte*float64(3*time.Minute))).Round(10 * time.Second)
}

// Names below the run's folder.
func receiptPath(f *Facts) string { return path.Join(journal.RunDir(f.Run), "staged.json") }

func parkingDir(f *Facts) string { return path.Join(journal.RunDir(f.Run), "manifests") }

func madeSnapshot(run string) string { return path.Join(journal.RunDir(run), "snapshot.db") }

func proofPath(run string) string { return path.Join(journal.RunDir(run), "proof.json") }

func (o restorer) snapshotPath(f *Facts) string {
	if o.FromDataDir != "" || o.Shared.sends() {
		return madeSnapshot(f.Run)
	}
	return f.Snapshot.Path
}

// liveDir is the data directory that etcd will use.
func (o restorer) liveDir(f *Facts) string {
	if o.DataDir != "" {
		return o.DataDir
	}
	return f.Etcd.DataDir
}

func stagedDir(f *Facts) string { return path.Join(f.Data.StageIn, "data") }

func stagedWALDir(f *Facts) string { return path.Join(f.Data.WALStageIn, "wal") }

func (o restorer) verifySnapshot() phase {
	return phase{Name: "verify-snapshot", Short: "prove that what is to be restored is whole", Found: o.foundSnapshot,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if o.FromDataDir == "" {
				// Proven while the facts were gathered; staging checks its SHA-256 again.
				return nil, nil
			}
			snapshot := o.snapshotPath(f)
			return []op.Op{
				&op.SnapshotDataDir{Dir: o.FromDataDir, WALDir: o.FromWALDir, Snapshot: snapshot},
				&op.ProveSnapshot{Snapshot: snapshot, Proof: proofPath(f.Run)},
			}, nil
		}}
}

func (o restorer) foundSnapshot(f *Facts) []string {
	if o.FromDataDir != "" {
		return nil
	}
	s := f.Snapshot
	proven := fmt.Sprintf("proven good: %d keys at revision %d, %d MiB, SHA-256 %s",
		s.Proof.Keys, s.Proof.Revision, s.Proof.SizeBytes>>20, s.Proof.SHA256)
	if o.SkipHashCheck {
		proven = fmt.Sprintf("page structure and keys are good, no SHA-256 was compared: %d keys at "+
			"revision %d, %d MiB", s.Proof.Keys, s.Proof.Revision, s.Proof.SizeBytes>>20)
	}
	if s.Sidecar != nil {
		proven += ", taken " + s.Sidecar.TakenAt.Format(time.RFC3339)
	}
	return []string{proven}
}

func (o restorer) stageData() phase {
	return phase{Name: "stage-data", Short: "make the new data beside the old, while etcd serves",
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

// makeDirectories plans the directories that are not there: the data directory, where it is new or
// gone, and places to stage in.
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
		// A fresh token gives the cluster a new id: a member of the old one that comes
		// back cannot talk to it.
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

func (o restorer) fenceOf(f *Facts) op.Fence {
	fence := op.Fence{ManifestDir: f.ManifestDir, Parking: parkingDir(f), Mounts: o.mounts(f), Timeout: o.StopTimeout}
	for _, m := range o.fenced(f) {
		fence.Pods = append(fence.Pods, op.Pod{Namespace: m.Manifest.Namespace(),
			Name: m.Manifest.Name(), Containers: m.Manifest.Containers()})
	}
	if f.Etcd == nil { // an API server that uses etcd on other nodes
		return fence
	}
	for _, dir := range []string{f.Etcd.DataDir, o.liveDir(f), stagedDir(f)} {
		if !slices.Contains(fence.DataDirs, dir) {
			fence.DataDirs = append(fence.DataDirs, dir)
			fence.Databases = append(fence.Databases, path.Join(dir, "member/snap/db"))
		}
	}
	// A link to the first: one database, and one lock.
	if !slices.Contains(fence.DataDirs, f.Etcd.DataPath) {
		fence.DataDirs = append(fence.DataDirs, f.Etcd.DataPath)
	}
	if f.Etcd.WALDir != "" {
		fence.DataDirs = append(fence.DataDirs, f.Etcd.WALDir)
	}
	return fence
}

// mounts are the directories that no static pod may mount while they are exchanged.
func (o restorer) mounts(f *Facts) []string {
	if f.Etcd == nil {
		return nil
	}
	dirs := []string{f.Etcd.DataPath, f.Etcd.DataDir, o.liveDir(f)}
	if f.Etcd.WALDir != "" {
		dirs = append(dirs, f.Etcd.WALDir)
	}
	return slices.Compact(dirs)
}

// fenced lists the manifests that must not run while the data is exchanged.
func (o restorer) fenced(f *Facts) []observe.ManifestFile {
	var files []observe.ManifestFile
	for _, m := range f.Manifests {
		if m.Manifest != nil && observe.Involved(m.Manifest, o.mounts(f)...) {
			files = append(files, m)
		}
	}
	return files
}

func (o restorer) fence() phase {
	return phase{Name: "fence", Short: "make sure that nothing runs on the old data",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			ops := []op.Op{
				&op.MakeDirectory{Path: parkingDir(f), Attr: node.Mine(0o700)},
				&op.StopKubelet{},
			}
			for _, m := range o.fenced(f) {
				ops = append(ops, &op.TakeOutManifest{From: m.Path,
					To: path.Join(parkingDir(f), path.Base(m.Path)), SHA256: fmt.Sprintf("%x", sha256.Sum256(m.Data))})
			}
			return append(ops, &op.StopContainers{Fence: o.fenceOf(f)}), nil
		}}
}

func (o restorer) exchangeData() phase {
	return phase{Name: "exchange-data", Short: "swap the old data and the new in one step",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if f.Etcd == nil {
				return nil, nil
			}
			if o.rejoins(f) {
				return o.moveAside(f), nil
			}
			staged := path.Join(stagedDir(f), "member")
			ops := []op.Op{
				&op.Exchange{Fence: o.fenceOf(f), Live: path.Join(o.liveDir(f), "member"),
					Staged: staged, Park: staged + ".park"},
			}
			if f.Etcd.WALDir != "" {
				ops = append(ops, &op.Exchange{Fence: o.fenceOf(f),
					Live: f.Etcd.WALDir, Staged: stagedWALDir(f), Park: stagedWALDir(f) + ".park"})
			}
			return ops, nil
		}}
}

// releaseEtcd starts one node's etcd after the other: docs/failure-model.md weighs that.
func (o restorer) releaseEtcd() phase {
	return phase{Name: "release-etcd", Short: "let etcd run on the new data, and nothing else", InTurn: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if !o.restores(f) {
				return nil, nil
			}
			put := o.put(f, f.Etcd.File)
			put.Alone = true
			if o.DataDir != "" {
				m, err := f.Etcd.File.Manifest.SetHostPath(f.Etcd.DataVolume, o.DataDir)
				if err != nil {
					return nil, fmt.Errorf("cannot repoint %s to %s: %w", f.Etcd.File.Path, o.DataDir, err)
				}
				put.Data = m.Bytes()
			}
			ops := []op.Op{put, &op.StartKubelet{}}
			if o.Shared != nil {
				ops = append(ops, &op.AwaitPeer{Peer: f.Etcd.Peer, Limit: o.waitLimit(f.Snapshot.Proof.SizeBytes)})
			}
			return ops, nil
		}}
}

func (o restorer) put(f *Facts, m observe.ManifestFile) *op.PutManifest {
	return &op.PutManifest{Fence: o.fenceOf(f), Path: m.Path, Data: m.Data, Attr: m.Attr}
}

func (o restorer) alone(f *Facts) op.Alone {
	return op.Alone{Fence: o.fenceOf(f), Manifest: f.Etcd.File.Path, Pod: f.Etcd.File.Manifest.Name()}
}

func (o restorer) awaitEtcd() phase {
	return phase{Name: "await-etcd", Short: "wait until the restored etcd serves",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if !o.restores(f) {
				return nil, nil
			}
			alone := o.alone(f)
			return []op.Op{
				&op.AwaitAnswer{Alone: &alone, Access: f.Etcd.Access,
					Receipt: receiptPath(f), Limit: o.waitLimit(f.Snapshot.Proof.SizeBytes)},
				&op.DisarmAlarms{Access: f.Etcd.Access},
			}, nil
		}}
}

func (o restorer) compareMembers() phase {
	return phase{Name: "compare-members", Short: "compare what etcd serves with what was staged", Commit: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if !o.restores(f) {
				return nil, nil
			}
			return []op.Op{&op.CompareMembers{Alone: o.alone(f),
				Access: f.Etcd.Access, Receipt: receiptPath(f), Members: o.Shared.members()}}, nil
		}}
}

func (o restorer) releaseAPIServer() phase {
	return phase{Name: "release-apiserver", Short: "let the API server run", Found: o.foundServers,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			var ops []op.Op
			for _, m := range o.fenced(f) {
				if !observe.IsAPIServer(m) || o.rejoins(f) {
					continue
				}
				put := o.put(f, m)
				if err := o.rewireAPIServer(f, m, put); err != nil {
					return nil, err
				}
				ops = append(ops, put)
			}
			return ops, nil
		}}
}

func (o restorer) awaitAPIServer() phase {
	return phase{Name: "await-apiserver", Short: "wait until the API server is ready", Optional: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if !observe.HasAPIServer(f.Facts) || o.rejoins(f) {
				return nil, nil
			}
			return []op.Op{&op.AwaitAPIServer{API: f.API, Limit: o.waitLimit(f.Snapshot.Proof.SizeBytes)}}, nil
		}}
}

// restartComponents lets the rest of what the fence took out run: controller-manager and scheduler
// start anew, against an API server that is ready, and so with none of the crash-loop back-off that
// they would have had by now, nor with anything that they knew of the future that is gone.
func (o restorer) restartComponents() phase {
	return phase{Name: "restart-components",
		Short: "let controller-manager, scheduler and whatever else was stopped run", InTurn: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if o.rejoins(f) {
				return nil, nil
			}
			var ops []op.Op
			if leases := o.leases(f); len(leases) > 0 {
				ops = append(ops, &op.ReleaseLeases{API: f.API, Leases: leases})
			}
			for _, m := range o.fenced(f) {
				if !observe.IsAPIServer(m) && (f.Etcd == nil || m.Path != f.Etcd.File.Path) {
					ops = append(ops, o.put(f, m))
				}
			}
			if o.DataDir != "" && observe.HasAPIServer(f.Facts) && o.Shared.leads(f.Node) {
				ops = append(ops, &op.SetDataDir{API: f.API, DataDir: o.DataDir})
			}
			return ops, nil
		}}
}

// leases are the leader leases of the components that the fence ended. With control planes
// elsewhere, somebody there may hold them rightly.
func (o restorer) leases(f *Facts) []string {
	if !observe.HasAPIServer(f.Facts) || o.APIServersStopped || !o.Shared.leads(f.Node) {
		return nil
	}
	var leases []string
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		m, c, ok := observe.Program(o.fenced(f), name)
		if !ok {
			continue
		}
		namespace := cmp.Or(observe.FlagOf(m, c, "leader-elect-resource-namespace"), "kube-system")
		leases = append(leases, namespace+"/"+cmp.Or(observe.FlagOf(m, c, "leader-elect-resource-name"), name))
	}
	return leases
}

func (o restorer) verifyRestored() phase {
	return phase{Name: "verify-restored", Short: "read the objects back through the API server",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if !observe.HasAPIServer(f.Facts) {
				return nil, nil
			}
			return []op.Op{&op.VerifyRestored{API: f.API, Expected: f.Snapshot.Resources,
				Nodes: f.nodesBefore(), Second: !o.Shared.leads(f.Node)}}, nil
		}}
}
