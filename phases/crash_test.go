package phases

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// The crash matrix: a restore on a simulated node is stopped at every step, in every way, and settled by `resume` and in another pass by `rollback`,
// themselves stopped on the way. Wholly old or wholly new each time, and the invariants of sim hold after every step.

// scenario is one shape of a node, and what is asked for there.
type scenario struct {
	name    string
	options RestoreOptions
	shape
}

func scenarios() []scenario {
	mounts := func(names ...string) func(*sim.Disk) {
		return func(d *sim.Disk) { d.Mounts = names }
	}
	return []scenario{
		{name: "one file system"},
		{name: "manifests on another mount", shape: shape{prepare: mounts("/etc")}},
		{name: "no atomic exchange", shape: shape{prepare: func(d *sim.Disk) { d.NoExchange = true }}},
		{name: "the data directory is a mount point", shape: shape{prepare: mounts("/var/lib/etcd")}},
		{name: "the WAL elsewhere", shape: shape{walDir: "/var/lib/etcd-wal/wal"}},
		{name: "the WAL elsewhere, no atomic exchange", shape: shape{walDir: "/var/lib/etcd-wal/wal", prepare: func(d *sim.Disk) { d.NoExchange = true }}},
		{name: "the data directory is gone", shape: shape{noData: true}},
		{name: "a new data directory", options: RestoreOptions{DataDir: "/var/lib/etcd-new"}},
		{name: "from a data directory", options: RestoreOptions{FromDataDir: "/backup/etcd"}},
	}
}

// restoreWorld is a simulated node that is restored.
type restoreWorld struct {
	*world
	scenario scenario
}

func newWorld(t *testing.T, s scenario) *restoreWorld {
	t.Helper()
	machine := s.machine(t)
	return onNode(over(t, "cp1", machine, machine), s)
}

func onNode(w *world, s scenario) *restoreWorld {
	w.machine.CommittedBy(w.committed)
	return &restoreWorld{w, s}
}

// restores are the cases of the crash matrix.
func restores() (all []crashCase) {
	for _, s := range scenarios() {
		all = append(all, crashCase{name: s.name, machine: s.machine, on: func(w *world, _ *sim.Machine) subject {
			r := onNode(w, s)
			return subject{run: r.restore, outcome: r.verdict}
		}})
	}
	return all
}

// facts observes the simulated node as a restore would the real one.
func (w *restoreWorld) facts(_ context.Context, _ *View, id string) (*factsOfRestore, error) {
	seen, err := w.look(id)
	if err != nil {
		return nil, err
	}
	f := &factsOfRestore{Facts: seen, KnownRevision: 5, Snapshot: &SnapshotFacts{Path: "/backup/snapshot.db", Proof: op.Proof{SHA256: sim.Sum([]byte("snapshot")), SizeBytes: 8}}}
	f.Data = DataFacts{DirExists: !w.scenario.noData && w.scenario.options.DataDir == "", StageIn: journal.RunDir(id), Free: 1 << 40, RunFree: 1 << 40, Attr: node.Attr{Mode: 0o700}}
	if len(w.machine.Mounts) > 0 && w.machine.Mounts[0] == "/var/lib/etcd" {
		f.Data.StageIn = "/var/lib/etcd/.etcdpod-" + id
	}
	if w.scenario.walDir != "" {
		f.Data.WALStageIn = journal.RunDir(id)
	}
	return f, nil
}

func (w *restoreWorld) restore() error {
	o := w.scenario.options
	o.StopTimeout = time.Minute
	restore := Restore(o)
	restore.Observe = w.facts
	return w.do(restore.On(w.node.Look))
}

// verdict says whether the node is wholly old or wholly new, and what is wrong otherwise.
func (w *restoreWorld) verdict() (string, error) {
	look := w.machine.Look(journal.Home)
	if v := w.machine.Violations; len(v) > 0 {
		return "", fmt.Errorf("%s", strings.Join(v, "\n"))
	}
	if look == w.first {
		return "old", nil
	}
	for _, want := range []string{"kubelet true", "runs etcd new", "runs kube-apiserver ", "runs kube-controller-manager ", "runs kube-scheduler "} {
		if !strings.Contains(look, want+"\n") {
			return "", fmt.Errorf("neither old nor new: no %q in\n%s", want, look)
		}
	}
	for _, m := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		name := testManifestDir + "/" + m + ".yaml"
		now, err := w.machine.ReadFile(name)
		if err != nil {
			return "", err
		}
		if !strings.Contains(w.first, fmt.Sprintf("%q", now)) && !(m == "etcd" && w.scenario.options.DataDir != "" && strings.Contains(string(now), w.scenario.options.DataDir)) {
			return "", fmt.Errorf("neither old nor new: %s was changed", name)
		}
	}
	if strings.Contains(look, "etcdpod-kept") || strings.Contains(look, "manifests/.") {
		return "", fmt.Errorf("something was left in the static-pod directory:\n%s", look)
	}
	return "new", nil
}

func TestARestoreStoppedAnywhereEndsWhollyOldOrWhollyNew(t *testing.T) {
	stoppedAnywhere(t, restores())
}

func TestARestoreThatAnEarlierVersionLeftOpenIsSettled(t *testing.T) {
	settlesStored(t, "restore", restores())
}

func TestARestoreOnASavedNodeEndsAsOnTheOriginal(t *testing.T) {
	all := restores()
	savedEndsAsTheOriginal(t, all[len(all)/2])
}

func TestStoreOpenRunsOfARestore(t *testing.T) { storesOpenRuns(t, "restore", restores()) }
