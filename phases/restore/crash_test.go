package restore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// The crash matrix: a restore on a simulated node is stopped at every step, in every way, and
// settled by `resume` and in another pass by `rollback`, which are stopped on the way themselves.
// Each time the node ends wholly old or wholly new, and the invariants of sim hold after every
// step.

// scenario is one shape of a node, and the restore to run there.
type scenario struct {
	name    string
	options Options
	crashtest.Shape
}

func scenarios() []scenario {
	mounts := func(names ...string) func(*sim.Disk) {
		return func(d *sim.Disk) { d.Mounts = names }
	}
	return []scenario{
		{name: "one file system"},
		{name: "manifests on another mount", Shape: crashtest.Shape{Prepare: mounts("/etc")}},
		{name: "no atomic exchange", Shape: crashtest.Shape{Prepare: func(d *sim.Disk) { d.NoExchange = true }}},
		{name: "the data directory is a mount point", Shape: crashtest.Shape{Prepare: mounts("/var/lib/etcd")}},
		{name: "the WAL elsewhere", Shape: crashtest.Shape{WalDir: "/var/lib/etcd-wal/wal"}},
		{name: "the WAL elsewhere, no atomic exchange", Shape: crashtest.Shape{WalDir: "/var/lib/etcd-wal/wal",
			Prepare: func(d *sim.Disk) { d.NoExchange = true }}},
		{name: "the WAL's directory is a mount point", Shape: crashtest.Shape{WalDir: "/wal/disk",
			Prepare: mounts("/wal/disk")}},
		{name: "the data directory is gone", Shape: crashtest.Shape{NoData: true}},
		{name: "a new data directory", options: Options{DataDir: "/var/lib/etcd-new"}},
		{name: "from a data directory", options: Options{FromDataDir: "/backup/etcd"}},
		{name: "from a sealed backup", options: Options{File: sealedFile}, Shape: crashtest.Shape{Prepare: seal}},
	}
}

// restoreWorld is a simulated node on which a restore runs.
type restoreWorld struct {
	*crashtest.Node
	scenario scenario
	lost     []SharedMember // in a rejoin, nodes that were to join before this one
	sealed   bool           // on several nodes, what is restored is sealed
}

func newWorld(t *testing.T, s scenario) *restoreWorld {
	t.Helper()
	return onNode(crashtest.Alone(t, s.Machine(t)), s)
}

func onNode(w *crashtest.Node, s scenario) *restoreWorld {
	w.Machine.CommittedBy(w.Committed)
	return &restoreWorld{Node: w, scenario: s}
}

// restores are the cases of the crash matrix.
func restores() []crashtest.Case {
	return crashtest.Cases(scenarios(), func(s scenario, w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
		r := onNode(w, s)
		return crashtest.Subject{Run: r.restore, Outcome: r.verdict}
	})
}

// Title names the case.
func (s scenario) Title() string { return s.name }

// facts observes the simulated node as a restore observes a real one.
func (w *restoreWorld) facts(_ context.Context, _ *observe.Node, id string) (*Facts, error) {
	seen, err := w.Observe(id)
	if err != nil {
		return nil, err
	}
	f := &Facts{
		Facts: seen, KnownRevision: 5, Snapshot: &SnapshotFacts{Path: "/backup/snapshot.db",
			Proof: op.Proof{SHA256: sim.Sum([]byte("snapshot")), SizeBytes: 8}},
		EtcdServes: !w.scenario.NoData, APIReady: !w.scenario.NoData,
	}
	if w.scenario.options.File == sealedFile || w.sealed {
		f.Snapshot.Path, f.Snapshot.Sealed, f.Snapshot.Identity = sealedFile, true, identityFile
	}
	f.Containers, _ = w.Machine.Host().Runtime.Containers(context.Background())
	f.Data = DataFacts{DirExists: !w.scenario.NoData && w.scenario.options.DataDir == "",
		StageIn: journal.RunDir(id), Free: 1 << 40, RunFree: 1 << 40, Attr: node.Attr{Mode: 0o700}}
	if len(w.Machine.Mounts) > 0 && w.Machine.Mounts[0] == "/var/lib/etcd" {
		f.Data.StageIn = "/var/lib/etcd/.etcdpod-" + id
	}
	if w.scenario.WalDir != "" {
		f.Data.WALStageIn = journal.RunDir(id)
		if f.Data.WALMount = slices.Contains(w.Machine.Mounts, w.scenario.WalDir); f.Data.WALMount {
			f.Data.WALStageIn = w.scenario.WalDir + "/" + journal.HiddenDir(id)
		}
	}
	return f, nil
}

func (w *restoreWorld) restore() error {
	o := w.scenario.options
	o.StopTimeout = time.Minute
	restore := Workflow(o)
	restore.Observe = w.facts
	return w.Do(restore.On(w.Process.Look))
}

// verdict says whether the node is wholly old or wholly new; if neither, what is wrong.
func (w *restoreWorld) verdict() (string, error) {
	verdict, err := w.OldOrNew(w.isNew)
	if err == nil && w.scenario.options.File == sealedFile {
		err = w.plainLeft()
	}
	return verdict, err
}

// allRun are the lines of a node on which everything runs again, with the new data.
func allRun() []string {
	return []string{"kubelet true\n", "runs etcd new\n", "runs kube-apiserver \n",
		"runs kube-controller-manager \n", "runs kube-scheduler \n"}
}

func (w *restoreWorld) isNew(look string) error {
	if err := crashtest.Shows(look, allRun()...); err != nil {
		return err
	}
	for _, m := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		name := crashtest.TestManifestDir + "/" + m + ".yaml"
		now, err := w.Machine.ReadFile(name)
		if err != nil {
			return err
		}
		if !strings.Contains(w.First, fmt.Sprintf("%q", now)) && !(m == "etcd" &&
			w.scenario.options.DataDir != "" && strings.Contains(string(now), w.scenario.options.DataDir)) {
			return fmt.Errorf("neither old nor new: %s was changed", name)
		}
	}
	if strings.Contains(look, "etcdpod-kept") || strings.Contains(look, "manifests/.") {
		return fmt.Errorf("something was left in the static-pod directory:\n%s", look)
	}
	return nil
}

func TestARestoreEndsWhollyOldOrWhollyNewWhateverHappens(t *testing.T) {
	crashtest.Everything(t, restores())
}

func TestARestoreThatAnEarlierVersionLeftOpenIsSettled(t *testing.T) {
	crashtest.LeftOpen(t, "restore", restores())
}
