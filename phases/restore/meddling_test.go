package restore

import (
	"context"
	"errors"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// What people and other programs do to a node before, during and after a restore.

const shipper = crashtest.TestManifestDir + "/shipper.yaml"

func podMounting(dir string) string {
	return crashtest.PodManifest("shipper", "", "    volumeMounts:\n    - mountPath: /data\n      name: data\n"+
		"  volumes:\n  - hostPath:\n      path: "+dir+"\n    name: data\n")
}

func TestAPodThatMountsPartOfTheNodeIsThereAgainAfterwards(t *testing.T) {
	const wal = "/var/lib/etcd-wal/wal"
	for name, mounted := range map[string]string{
		"the runs' folder":       "/var/lib/etcdpod",
		"the WAL":                path.Dir(wal),
		"the data":               "/var/lib/etcd",
		"the parent of the data": "/var/lib",
	} {
		for _, sick := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t, scenario{Shape: crashtest.Shape{WalDir: wal, Prepare: func(d *sim.Disk) {
					if err := d.Create(shipper, []byte(podMounting(mounted)), node.Attr{Mode: 0o600}); err != nil {
						t.Fatal(err)
					}
				}}})
				w.Machine.SickEtcd = sick
				if err := w.restore(); (err != nil) != sick {
					t.Fatal(err)
				}
				if there, err := w.Machine.ReadFile(shipper); err != nil || string(there) != podMounting(mounted) {
					t.Errorf("it is %q, %v", there, err)
				}
				if len(w.Machine.Violations) > 0 {
					t.Error(w.Machine.Violations)
				}
			})
		}
	}
}

func TestAnAPIServerPutBackInsideTheFenceDoesNotRunBeforeTheCommitPoint(t *testing.T) {
	for _, call := range []string{"exchange ", "create /etc/kubernetes/manifests/.etcd.yaml"} {
		w := cutOff(t, call)
		manifest := crashtest.PodManifest("kube-apiserver", "", "")
		if err := w.Machine.Create(crashtest.TestManifestDir+"/kube-apiserver.yaml",
			[]byte(manifest), node.Attr{Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if err := w.Settle("resume"); err != nil {
			t.Fatal(err)
		}
		if outcome, err := w.verdict(); outcome != "new" {
			t.Errorf("after %q it ended %q: %v", call, outcome, err)
		}
	}
}

func TestAManifestEditedSinceThePlanIsNotOverwritten(t *testing.T) {
	w := newWorld(t, scenario{})
	const name = crashtest.TestManifestDir + "/kube-scheduler.yaml"
	edited := crashtest.PodManifest("kube-scheduler", "    - --v=4\n", "")
	restore := Workflow(Options{StopTimeout: time.Minute})
	restore.Observe = w.facts
	err := w.Process.Do(context.Background(), restore.On(w.Process.Look), func(engine.Plan) error {
		return node.WriteAtomic(w.Machine.Disk, name, []byte(edited), node.Attr{Mode: 0o600})
	})
	if !crashtest.IsRolledBack(err) || !strings.Contains(err.Error(), "someone has changed it since") {
		t.Errorf("the restore ended with %v", err)
	}
	if there, err := w.Machine.ReadFile(name); err != nil || string(there) != edited {
		t.Errorf("the edit is gone: %q, %v", there, err)
	}
}

func TestADirectoryAmongTheManifestsIsNoMatter(t *testing.T) {
	w := newWorld(t, scenario{Shape: crashtest.Shape{Prepare: func(d *sim.Disk) {
		if err := d.Mkdir(crashtest.TestManifestDir+"/old", node.Attr{Mode: 0o700}); err != nil {
			t.Fatal(err)
		}
	}}})
	observed, err := w.Process.Look.Manifests(t.Context(), crashtest.TestManifestDir)
	if err != nil || len(observed) != 4 {
		t.Errorf("%d manifests were observed, %v", len(observed), err)
	}
	restore := Workflow(Options{StopTimeout: time.Minute})
	restore.Observe = func(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
		f, err := w.facts(ctx, n, id)
		if f != nil {
			f.Manifests = observed
		}
		return f, err
	}
	if err := w.Do(restore.On(w.Process.Look)); err != nil {
		t.Error(err)
	}
}

// deaf is a kubelet that cannot be asked, because its commands were not given.
type deaf struct{ node.Kubelet }

func (deaf) Running(context.Context) (bool, error) {
	return false, errors.New("systemctl is not on the PATH")
}

func TestAResumeThatCannotAskTheKubeletTurnsNothingBack(t *testing.T) {
	w := cutOff(t, "exchange ")
	host := *w.Process.Host
	w.Process.Host.Kubelet = deaf{host.Kubelet}
	err := w.Settle("resume")
	var refused *engine.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Hint, "--kubelet-") {
		t.Errorf("it says %v, hint %q", err, engine.Hint(err))
	}
	w.Process.Host = &host
	if err := w.Settle("resume"); err != nil {
		t.Fatalf("with the right commands: %v", err)
	}
	if outcome, err := w.verdict(); outcome != "new" {
		t.Errorf("it ended %q: %v", outcome, err)
	}
}

// dumb is an API server that never gets ready.
type dumb struct{ op.APIServer }

func (dumb) Ready(context.Context, op.APIAccess) error { return errors.New("500") }

func (dumb) Counts(context.Context, op.APIAccess, int64) ([]op.Count, error) {
	return nil, errors.New("500")
}

func TestARunBehindItsCommitPointCanBeClosedWithoutTheAPIServer(t *testing.T) {
	w := newWorld(t, scenario{})
	w.Process.API = dumb{w.Process.API}
	err := w.restore()
	// What the hint says closes the run, with nothing left to be skipped by another one.
	const closes = "`etcdpod resume --skip-phases await-apiserver,verify-restored` closes the run"
	if !crashtest.IsOpen(err) || !strings.Contains(engine.Hint(err), closes) {
		t.Fatalf("it ended with %v, hint %q", err, engine.Hint(err))
	}
	if err := w.Process.Resume(context.Background(), "nonsense"); err == nil {
		t.Error("a phase that is not there was skipped")
	}
	if err := w.Process.Resume(context.Background(), "await-apiserver", "verify-restored"); err != nil {
		t.Fatal(err)
	}
	if outcome, err := w.verdict(); outcome != "new" {
		t.Errorf("it ended %q: %v", outcome, err)
	}
}

func TestBeforeTheCommitPointNoPhaseOfAnOpenRunCanBeSkipped(t *testing.T) {
	w := cutOff(t, "exchange ")
	var usage *engine.UsageError
	if err := w.Process.Resume(context.Background(), "await-apiserver"); !errors.As(err, &usage) {
		t.Errorf("it says %v", err)
	}
}

func TestADiskThatIsFullBehindTheCommitPointIsNoObstacle(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, s)
			step := w.Machine.Step
			w.Machine.Step = func(call string) error {
				if err := step(call); err != nil {
					return err
				}
				if strings.HasPrefix(call, "create "+crashtest.TestManifestDir) && w.Committed() {
					return syscall.ENOSPC
				}
				return nil
			}
			if err := w.restore(); err != nil {
				t.Fatal(err)
			}
			if outcome, err := w.verdict(); outcome != "new" {
				t.Errorf("it ended %q: %v", outcome, err)
			}
		})
	}
}

func TestAnOriginalThatWasLeftHiddenStopsNoLaterRestore(t *testing.T) {
	w := cutOffIn(t, scenario{Shape: crashtest.Shape{Prepare: func(d *sim.Disk) { d.Mounts = []string{"/etc"} }}},
		"stop the container")
	for _, name := range []string{"etcd", "kube-apiserver"} {
		from := journal.RunDir(w.openID()) + "/manifests/" + name + ".yaml"
		if err := node.CopyFile(w.Machine.Disk, from, crashtest.TestManifestDir+"/"+name+".yaml"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Settle("rollback"); err != nil {
		t.Fatal(err)
	}
	if outcome, err := w.verdict(); outcome != "old" {
		t.Fatalf("it ended %q: %v", outcome, err)
	}
	if err := w.restore(); err != nil {
		t.Errorf("the next restore: %v", err)
	}
}

func (w *restoreWorld) openID() string {
	open, err := engine.OpenRun(w.Machine.Disk)
	if err != nil {
		w.T.Fatal(err)
	}
	return open.ID
}
