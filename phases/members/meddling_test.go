package members

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/prune"
)

// initCutOff is a node whose init was killed just before the named call.
func initCutOff(t *testing.T, b beginning, call string) *initWorld {
	t.Helper()
	for at := 1; ; at++ {
		w := newInitWorld(t, b)
		w.Machine.CrashAt = at
		if err := w.init(); !w.Machine.Crashed() {
			t.Fatalf("no step of an init is %q: %v", call, err)
		}
		if strings.HasPrefix(w.Machine.Calls[at-1]+" ", call) {
			w.Machine.Revive()
			w.Restart()
			return w
		}
	}
}

// An init was killed on the wrong disk, and the right one is mounted: its data is not what the
// run's etcd has written.
func TestTheDataOfADiskThatIsMountedMeanwhileIsLeftAlone(t *testing.T) {
	for _, command := range []string{"rollback", "resume"} {
		w := initCutOff(t, beginnings()[0], "rename "+crashtest.TestManifestDir+"/.etcd.yaml")
		theirs := map[string]string{
			"/var/lib/etcd/member/snap/db": "theirs", "/var/lib/etcd/member/wal/0.wal": "theirs",
		}
		w.Machine.Meddled = true
		w.Machine.MountOver("/var/lib/etcd", theirs)
		err := w.Settle(command)
		if err == nil || !strings.Contains(err.Error(), "is not the directory that this run claimed: is another disk "+
			"mounted there? Nothing in it is touched; unmount it, or put back what was there, and run the command "+
			"again") {
			t.Fatalf("%s: it says %v", command, err)
		}
		w.Machine.StopKubelet()
		w.Machine.EndPods()
		if held := w.Machine.Unmount(); !maps.Equal(held, theirs) {
			t.Errorf("%s: the other disk holds %q", command, held)
		}
		w.Machine.StartKubelet()
		w.Restart()
		if crashtest.IsOpen(err) {
			if err := w.Settle("rollback"); err != nil {
				t.Fatalf("%s: %v", command, err)
			}
		}
		if got, err := w.settled(); got != "old" {
			t.Errorf("%s: it ended %s: %v", command, got, err)
		}
	}
}

// An etcd may have begun on the wrong disk meanwhile, and clients have written to that.
func TestWhoIsToUnmountADiskIsToldWhatClientsHaveWrittenToIt(t *testing.T) {
	for _, command := range []string{"rollback", "resume"} {
		w := initCutOff(t, beginnings()[0], "sync "+crashtest.TestManifestDir+" ")
		w.Machine.StopKubelet()
		w.Machine.EndPods()
		w.Machine.MountOver("/var/lib/etcd", nil)
		w.aWrite()
		if err := w.Settle(command); err == nil || !strings.Contains(err.Error(), "clients have written to it") {
			t.Errorf("%s: it says %v", command, err)
		}
	}
}

// aWrite lets an API server write to the etcd that the run's manifest starts.
func (w *initWorld) aWrite() {
	w.T.Helper()
	w.Machine.Meddled = true
	w.Machine.StartKubelet()
	w.Machine.StartByHand()
	w.Machine.Wait(5 * time.Second)
	if len(w.Machine.Acked()) != 1 {
		w.T.Fatalf("the API server has not written: %s", w.Machine.Runs())
	}
}

// renderedAlone is a node on which `init phase render-etcd` was killed when the manifest was in
// place.
func renderedAlone(t *testing.T) *initWorld {
	t.Helper()
	i := slices.IndexFunc(beginnings(), func(b beginning) bool { return b.phase == "render-etcd" })
	return initCutOff(t, beginnings()[i], "sync "+crashtest.TestManifestDir+" ")
}

// That phase knows of no kubelet; but somebody may start one.
func TestAnEtcdThatSomebodyStartsFromAManifestWrittenAloneGoesWithIt(t *testing.T) {
	w := renderedAlone(t)
	w.Machine.StartKubelet()
	if w.Machine.EtcdServes() == "" {
		t.Fatal("no etcd has begun")
	}
	if err := w.Settle("rollback"); err != nil {
		t.Fatal(err)
	}
	w.Machine.StopKubelet() // as before
	if got, err := w.settled(); got != "old" {
		t.Errorf("it ended %s: %v", got, err)
	}
	if kept := w.Machine.Holds("new member"); len(kept) != 2 || !strings.HasPrefix(kept[0], journal.Home) {
		t.Errorf("what etcd has written is kept as %q", kept)
	}
}

func TestAWriteToAnEtcdFromAManifestWrittenAloneIsNotGivenUpWithoutAWord(t *testing.T) {
	w := renderedAlone(t)
	w.aWrite()
	var refused *engine.RefusedError
	if err := w.Settle("rollback"); !errors.As(err, &refused) || w.Machine.EtcdServes() == "" {
		t.Fatalf("it says %v", err)
	}
	w.Restart()
	w.Process.GiveUp(true)
	if err := w.Settle("rollback"); err != nil {
		t.Fatal(err)
	}
	if kept := w.Machine.Holds(w.Machine.Acked()[0]); len(kept) != 2 || !strings.HasPrefix(kept[0], journal.Home) {
		t.Errorf("what was written is kept as %q", kept)
	}
}

// Configuration management puts the manifest back, and starts the kubelet just when etcd is ended.
func TestGoingBackEndsAnEtcdAgainThatSomebodyStartsMeanwhile(t *testing.T) {
	w := newInitWorld(t, beginnings()[0])
	w.Machine.SickEtcd, w.Machine.Meddled = true, true
	file, placed, back, ended := crashtest.TestManifestDir+"/etcd.yaml", "", false, 0
	w.Machine.Before = func(call string) {
		switch there := w.Machine.Peek(file); {
		case there != nil && !back:
			placed = string(there)
		case placed != "" && !back && strings.HasSuffix(call, "/journal"):
			back = true
			w.Machine.Write(file, placed)
			w.Machine.StartKubelet()
		case back && strings.HasPrefix(call, "stop the container etcd-"):
			if ended++; ended == 1 {
				w.Machine.StartKubelet()
			}
		}
	}
	if err := w.init(); !crashtest.IsRolledBack(err) || ended != 2 {
		t.Errorf("etcd was ended %d times again; it says %v", ended, err)
	}
	if kept := w.Machine.Holds("new member"); len(kept) != 2 || !strings.HasPrefix(kept[0], journal.Home) {
		t.Errorf("what etcd has written is kept as %q", kept)
	}
}

// What prune deletes was made or replaced by the run whose it is, whatever lies in its place now.
func TestPruneLeavesDataThatItsRunDidNotMake(t *testing.T) {
	for name, to := range map[string]string{"nothing of theirs": "", "where the run keeps its own": "member",
		"beside that": "elsewhere/member"} {
		t.Run(name, func(t *testing.T) {
			w := newInitWorld(t, beginnings()[0])
			w.Machine.SickEtcd = true
			if err := w.init(); !crashtest.IsRolledBack(err) {
				t.Fatalf("got %v", err)
			}
			runs, err := w.Process.Runs(t.Context())
			if err != nil || len(runs) != 1 {
				t.Fatal(runs, err)
			}
			folder := journal.RunDir(runs[0].ID)
			if w.Machine.Peek(folder+"/member/snap/db") == nil {
				t.Fatalf("what etcd has written is not kept:\n%s", w.Machine.Look())
			}
			if to == "member" { // they took the run's away, and put their own there
				w.Machine.Aside(func() { err = w.Machine.Rename(folder+"/member", "/root-member") })
			}
			if to != "" {
				theirs := folder + "/" + to
				w.Machine.Aside(func() { err = errors.Join(err, makeMember(w.Machine, theirs)) })
			}
			if err != nil {
				t.Fatal(err)
			}
			w.Restart()
			plan, err := prune.Look(context.Background(), w.Process.Node, w.Process.Look, 0)
			if err != nil {
				t.Fatal(err)
			}
			if to == "" {
				if len(plan.Items) != 1 || len(plan.Kept) != 0 {
					t.Errorf("prune would delete %+v, and keep %+v", plan.Items, plan.Kept)
				}
				return
			}
			if len(plan.Items) != 0 || len(plan.Kept) != 1 || !strings.Contains(plan.Kept[0].Reason, folder+"/"+to) {
				t.Errorf("prune would delete %+v, and keep %+v", plan.Items, plan.Kept)
			}
		})
	}
}

func makeMember(m *sim.Machine, dir string) error {
	return errors.Join(node.MkdirAll(m.Disk, dir+"/snap", node.Attr{Mode: 0o700}),
		m.Create(dir+"/snap/db", []byte("theirs"), node.Attr{Mode: 0o600}))
}
