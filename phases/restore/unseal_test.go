package restore

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/together"
)

const (
	sealedFile   = "/backup/snapshot.db.zst.age"
	identityFile = "/root/key.txt"
	// Keys of nobody, made for these tests.
	testRecipient = "age19jjslkknw6l940z9aktwzux0nn4tq0j2d2w23wdzs28ktxvdxutqr09ywd"
	testIdentity  = "AGE-SECRET-KEY-13E9YWTCQNS0CXN8GRAJMRPY9V4D95GYEC5APDDGDJ5AWMDEKDYQQ96NYHE"
)

// seal puts a sealed backup of what /backup/snapshot.db has on a disk, and the key that opens it.
func seal(d *sim.Disk) {
	to, err := sealed.ParseRecipients([]byte(testRecipient))
	var stored bytes.Buffer
	if err == nil {
		_, err = sealed.Write(&stored, strings.NewReader("snapshot"), sealed.Options{To: to})
	}
	if err == nil {
		err = node.MkdirAll(d, path.Dir(sealedFile), node.Attr{Mode: 0o755})
	}
	if err == nil {
		err = d.Create(sealedFile, stored.Bytes(), node.Attr{Mode: 0o600})
	}
	if err == nil {
		err = node.MkdirAll(d, path.Dir(identityFile), node.Attr{Mode: 0o700})
	}
	if err == nil {
		err = d.Create(identityFile, []byte(testIdentity), node.Attr{Mode: 0o600})
	}
	if err != nil {
		panic(err)
	}
}

// plainLeft says whether a run that has ended left the snapshot itself behind.
func (w *restoreWorld) plainLeft() error {
	runs, _ := w.Machine.ReadDir(journal.RunsDir)
	for _, run := range runs {
		names, _ := w.Machine.ReadDir(journal.RunDir(run))
		for _, name := range names {
			if strings.Contains(name, "snapshot.db") {
				return fmt.Errorf("the unsealed snapshot is left: %s", path.Join(journal.RunDir(run), name))
			}
		}
	}
	return nil
}

// Once the snapshot is staged, nothing needs the identity; until it is in the run's folder, the
// run says that it does.
func TestAnInterruptedRestoreNeedsTheIdentityOnlyUntilTheSnapshotIsThere(t *testing.T) {
	s := scenarios()[len(scenarios())-1]
	steps := newWorld(t, s)
	if err := steps.restore(); err != nil {
		t.Fatal(err)
	}
	for at := 1; at <= steps.Machine.Steps; at++ {
		for _, command := range []string{"resume", "rollback"} {
			w := newWorld(t, s)
			w.Machine.CrashAt = at
			_ = w.restore()
			if !w.Machine.Crashed() || !w.Began() {
				continue
			}
			call := w.Machine.Calls[len(w.Machine.Calls)-1]
			w.Machine.Revive()
			w.Restart()
			runs, err := journal.List(w.Machine.Disk)
			if err != nil || len(runs) != 1 || runs[0].State == nil || runs[0].State.Ended {
				continue
			}
			state := runs[0].State
			there := w.Machine.Peek(madeSnapshot(runs[0].ID)) != nil || unsealed(state)
			if err := w.Machine.Disk.Remove(identityFile); err != nil {
				t.Fatal(err)
			}
			err = w.Settle(command)
			if command == "rollback" || there {
				if err != nil && !state.Forward() {
					t.Fatalf("%s after %q: %v", command, call, err)
				}
				continue
			}
			if err == nil || !strings.Contains(err.Error(), "put "+identityFile+" back") {
				t.Fatalf("%s after %q: %v", command, call, err)
			}
			key := []byte(testIdentity)
			if err := w.Machine.Disk.Create(identityFile, key, node.Attr{Mode: 0o600}); err != nil {
				t.Fatal(err)
			}
			if verdict, err := w.verdict(); err != nil || verdict != "old" {
				t.Fatalf("%s after %q: %s, %v", command, call, verdict, err)
			}
		}
	}
}

// unsealed says whether the journal has it that the snapshot was unsealed.
func unsealed(s *journal.State) bool {
	for _, step := range s.Steps {
		if o, err := op.Decode(step.Kind, step.Op); err == nil {
			if _, ok := o.(*op.UnsealSnapshot); ok {
				return step.Progress == journal.Done
			}
		}
	}
	return false
}

// sealedOnNodes is a restore of a sealed backup that only the coordinator has, and can open.
func sealedOnNodes(names ...string) crashtest.Together {
	of := func(w *crashtest.Node) *restoreWorld {
		return &restoreWorld{Node: w, sealed: true}
	}
	c := onNodes(names...)
	c.Name = "restore of a sealed backup"
	c.Machine = func(t *testing.T, name string) *sim.Machine {
		shape := crashtest.Shape{Prepare: func(d *sim.Disk) {
			if err := d.Remove(snapshotFile); err != nil {
				t.Fatal(err)
			}
			if name == names[0] {
				seal(d)
			}
		}}
		return shape.Machine(t)
	}
	c.Joint = func(w *crashtest.Node) together.Joint { return of(w).looker().joint() }
	c.Run = func(w *crashtest.Node, nodes []journal.Peer) error {
		o := TogetherOptions{Nodes: nodes, Restore: Options{StopTimeout: time.Minute}}
		return together.Plans(of(w).looker().plan, o).CarryOut(w.Context(), w.Process,
			func(engine.TogetherPlan) error { return nil })
	}
	c.Outcome = func(w *crashtest.Node) (string, error) {
		verdict, err := of(w).verdict()
		if err == nil {
			err = of(w).plainLeft()
		}
		return verdict, err
	}
	// Nothing but the coordinator's run can have it.
	c.Lacks = func(c *crashtest.Cluster, node string) bool {
		m, dir := c.Nodes[node].Machine, journal.RunDir(c.Read(node).ID)
		return m.Peek(sealedFile) == nil && m.Peek(dir+"/snapshot.db") == nil && m.Peek(dir+"/staged.json") == nil
	}
	return c
}

func TestARestoreOfASealedBackupOnThreeNodesLeavesNothingPlain(t *testing.T) {
	c := sealedOnNodes("cp1", "cp2", "cp3").Fresh(t)
	if err := c.Run("cp1"); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Verdict(); v != "new" || err != nil {
		t.Fatalf("%s %v", v, err)
	}
}

func TestARestoreOfASealedBackupOnThreeNodesInterruptedAnywhereGoesBackOnAll(t *testing.T) {
	crashtest.InterruptedTogether(t, sealedOnNodes("cp1", "cp2", "cp3"))
}
