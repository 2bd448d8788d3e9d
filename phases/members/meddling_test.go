package members

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

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
		if strings.HasPrefix(w.Machine.Calls[at-1], call) {
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
		if err == nil || !strings.Contains(err.Error(), "is not the directory that this run has claimed") {
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
