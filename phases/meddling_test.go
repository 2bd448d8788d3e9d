package phases

import (
	"context"
	"errors"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// What people and other programs do to a node before, during and after a restore.

const shipper = testManifestDir + "/shipper.yaml"

func podMounting(dir string) string {
	return podManifest("shipper", "", "    volumeMounts:\n    - mountPath: /data\n      name: data\n  volumes:\n  - hostPath:\n      path: "+dir+"\n    name: data\n")
}

func TestAPodThatMountsPartOfTheNodeIsThereAgainAfterwards(t *testing.T) {
	const wal = "/var/lib/etcd-wal/wal"
	for name, mounted := range map[string]string{"the runs' folder": "/var/lib/etcdpod", "the WAL": path.Dir(wal), "the data": "/var/lib/etcd", "the parent of the data": "/var/lib"} {
		for _, sick := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t, scenario{shape: shape{walDir: wal, prepare: func(d *sim.Disk) {
					if err := d.Create(shipper, []byte(podMounting(mounted)), node.Attr{Mode: 0o600}); err != nil {
						t.Fatal(err)
					}
				}}})
				w.machine.SickEtcd = sick
				if err := w.restore(); (err != nil) != sick {
					t.Fatal(err)
				}
				if there, err := w.machine.ReadFile(shipper); err != nil || string(there) != podMounting(mounted) {
					t.Errorf("it is %q, %v", there, err)
				}
				if len(w.machine.Violations) > 0 {
					t.Error(w.machine.Violations)
				}
			})
		}
	}
}

func TestAnAPIServerPutBackInsideTheFenceDoesNotRunBeforeTheCommitPoint(t *testing.T) {
	for _, call := range []string{"exchange ", "create /etc/kubernetes/manifests/.etcd.yaml"} {
		w := cutOff(t, call)
		manifest := podManifest("kube-apiserver", "", "")
		if err := w.machine.Create(testManifestDir+"/kube-apiserver.yaml", []byte(manifest), node.Attr{Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if err := w.settle("resume"); err != nil {
			t.Fatal(err)
		}
		if outcome, err := w.verdict(); outcome != "new" {
			t.Errorf("after %q it ended %q: %v", call, outcome, err)
		}
	}
}

func TestAManifestEditedSinceThePlanIsNotOverwritten(t *testing.T) {
	w := newWorld(t, scenario{})
	const name = testManifestDir + "/kube-scheduler.yaml"
	edited := podManifest("kube-scheduler", "    - --v=4\n", "")
	restore := Restore(RestoreOptions{StopTimeout: time.Minute})
	restore.Observe = w.facts
	err := w.node.Do(context.Background(), restore.On(w.node.Look), func(Plan) error {
		return node.WriteAtomic(w.machine.Disk, name, []byte(edited), node.Attr{Mode: 0o600})
	})
	if !isRolledBack(err) || !strings.Contains(err.Error(), "changed since") {
		t.Errorf("the restore ended with %v", err)
	}
	if there, err := w.machine.ReadFile(name); err != nil || string(there) != edited {
		t.Errorf("the edit is gone: %q, %v", there, err)
	}
}

func TestADirectoryAmongTheManifestsIsNoMatter(t *testing.T) {
	w := newWorld(t, scenario{shape: shape{prepare: func(d *sim.Disk) {
		if err := d.Mkdir(testManifestDir+"/old", node.Attr{Mode: 0o700}); err != nil {
			t.Fatal(err)
		}
	}}})
	observed, err := w.node.Look.manifests(testManifestDir)
	if err != nil || len(observed) != 4 {
		t.Errorf("%d manifests were observed, %v", len(observed), err)
	}
	restore := Restore(RestoreOptions{StopTimeout: time.Minute})
	restore.Observe = func(ctx context.Context, n *View, id string) (*factsOfRestore, error) {
		f, err := w.facts(ctx, n, id)
		if f != nil {
			f.Manifests = observed
		}
		return f, err
	}
	if err := w.do(restore.On(w.node.Look)); err != nil {
		t.Error(err)
	}
}

// deaf is a kubelet that cannot be asked: its commands were not given.
type deaf struct{ node.Kubelet }

func (deaf) Running(context.Context) (bool, error) {
	return false, errors.New("systemctl is not on the PATH")
}

func TestAResumeThatCannotAskTheKubeletTurnsNothingBack(t *testing.T) {
	w := cutOff(t, "exchange ")
	host := *w.node.Host
	w.node.Host.Kubelet = deaf{host.Kubelet}
	err := w.settle("resume")
	var refused *RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Hint, "--kubelet-") {
		t.Errorf("it says %v, hint %q", err, Hint(err))
	}
	w.node.Host = &host
	if err := w.settle("resume"); err != nil {
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
	w.node.API = dumb{w.node.API}
	err := w.restore()
	if !isOpen(err) || !strings.Contains(Hint(err), "--skip-phases await-apiserver") {
		t.Fatalf("it ended with %v, hint %q", err, Hint(err))
	}
	if err := w.node.Resume(context.Background(), "nonsense"); err == nil {
		t.Error("a phase that is not there was skipped")
	}
	if err := w.node.Resume(context.Background(), "await-apiserver", "verify-restored"); err != nil {
		t.Fatal(err)
	}
	if outcome, err := w.verdict(); outcome != "new" {
		t.Errorf("it ended %q: %v", outcome, err)
	}
}

func TestBeforeTheCommitPointNoPhaseOfAnOpenRunCanBeSkipped(t *testing.T) {
	w := cutOff(t, "exchange ")
	var usage *UsageError
	if err := w.node.Resume(context.Background(), "await-apiserver"); !errors.As(err, &usage) {
		t.Errorf("it says %v", err)
	}
}

func TestADiskThatIsFullBehindTheCommitPointIsNoObstacle(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, s)
			step := w.machine.Step
			w.machine.Step = func(call string) error {
				if err := step(call); err != nil {
					return err
				}
				if strings.HasPrefix(call, "create "+testManifestDir) && w.committed() {
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
	w := cutOffIn(t, scenario{shape: shape{prepare: func(d *sim.Disk) { d.Mounts = []string{"/etc"} }}}, "stop the container")
	for _, name := range []string{"etcd", "kube-apiserver"} {
		from := journal.RunDir(w.openID()) + "/manifests/" + name + ".yaml"
		if err := node.CopyFile(w.machine.Disk, from, testManifestDir+"/"+name+".yaml"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.settle("rollback"); err != nil {
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
	open, err := openRun(w.machine.Disk)
	if err != nil {
		w.t.Fatal(err)
	}
	return open.ID
}
