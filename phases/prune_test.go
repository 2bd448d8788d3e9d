package phases

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// newPruneWorld is a node on which a restore was completed, and a later run, too. It returns the first one's id.
func newPruneWorld(t *testing.T, s scenario) (*restoreWorld, string) {
	t.Helper()
	w := newWorld(t, s)
	if err := w.restore(); err != nil {
		t.Fatal(err)
	}
	runs, err := w.node.Runs(t.Context())
	if err != nil || len(runs) != 1 {
		t.Fatalf("%v, %v", runs, err)
	}
	w.wait(t, time.Hour)
	completeRun(t, w, nil)
	w.machine.Revive()
	w.reboot()
	return w, runs[0].ID
}

func (w *restoreWorld) wait(t *testing.T, d time.Duration) {
	t.Helper()
	if err := w.machine.Host().Clock.Sleep(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// completeRun is a restore that had nothing to do, and has left these notes.
func completeRun(t *testing.T, w *restoreWorld, notes map[string]string) {
	t.Helper()
	flow := restoreWorkflow{Name: "restore", Observe: func(context.Context, *View, string) (*factsOfRestore, error) {
		return &factsOfRestore{Facts: &Facts{Notes: notes}}, nil
	}}
	if err := w.do(flow.On(w.node.Look)); err != nil {
		t.Fatal(err)
	}
}

// reboot is a new process that has read the kubelet's configuration.
func (w *restoreWorld) reboot() {
	w.restart()
}

func (w *restoreWorld) prune() (PrunePlan, error) {
	plan, err := PlanPrune(context.Background(), w.node.engineNode, w.node.Look, 0)
	if err != nil {
		return plan, err
	}
	return plan, Prune(context.Background(), w.node.engineNode, w.node.Look, plan)
}

func (w *restoreWorld) there(name string) bool {
	_, err := w.machine.Lstat(name)
	return err == nil
}

// prunable are scenarios with something to prune, and where the old data is kept.
func prunable() map[string]func(run string) string {
	folder := func(run string) string { return path.Join(journal.RunDir(run), "data") }
	return map[string]func(string) string{
		"one file system":                     folder,
		"the WAL elsewhere":                   folder,
		"the data directory is a mount point": func(run string) string { return "/var/lib/etcd/.etcdpod-" + run + "/data" },
		"the data directory is gone":          nil,
	}
}

func TestAPruneStoppedAnywhereIsFinishedByTheNext(t *testing.T) {
	for _, s := range scenarios() {
		kept, ok := prunable()[s.name]
		if !ok {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for _, how := range crashes() {
				for at := 1; ; at++ {
					w, first := newPruneWorld(t, s)
					if kept != nil && !w.there(kept(first)) {
						t.Fatalf("the restore did not keep the old data in %s", kept(first))
					}
					stopped, err := w.playPrune(first, at, how)
					if err != nil {
						t.Fatalf("%s at step %d: %v", how.name, at, err)
					}
					if !stopped {
						break
					}
				}
			}
		})
	}
}

// playPrune stops a prune, and looks at what the next one does.
func (w *restoreWorld) playPrune(first string, at int, how crash) (stopped bool, err error) {
	hidden := "/var/lib/etcd/" + journal.HiddenDir(first)
	before := w.machine.Look(journal.Home, hidden)
	w.machine.CrashAt = at
	_, err = w.prune()
	if stopped = w.machine.Crashed(); stopped {
		how.after(w.world, at)
	} else if err != nil {
		return false, err
	}
	w.machine.CrashAt = 0
	w.reboot()
	runs, err := w.node.Runs(context.Background())
	if err != nil || slices.ContainsFunc(runs, func(r RunSummary) bool { return r.State != "completed" }) {
		return stopped, fmt.Errorf("the runs afterwards: %+v: %w", runs, err)
	}
	if _, err := w.prune(); err != nil {
		return stopped, fmt.Errorf("the next prune: %w", err)
	}
	if runs, _ = w.node.Runs(context.Background()); len(runs) != 1 || runs[0].ID == first {
		return stopped, fmt.Errorf("the runs that are left: %+v", runs)
	}
	if w.there(journal.RunDir(first)) || w.there(hidden) {
		return stopped, errors.New("something of the run is left")
	}
	if after := w.machine.Look(journal.Home, hidden); after != before {
		return stopped, fmt.Errorf("prune changed the node from\n%s\nto\n%s", before, after)
	}
	return stopped, nil
}

func TestPruneKeepsWhatMayStillBeNeeded(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	ended := func(id string, ago time.Duration, aborted string) journal.Listed {
		return journal.Listed{ID: id, State: &journal.State{Run: journal.Run{ID: id}, Ended: true, Aborted: aborted, Last: now.Add(-ago)}}
	}
	open := journal.Listed{ID: "open", State: &journal.State{Last: now.Add(-time.Hour)}}
	damaged := journal.Listed{ID: "damaged", Err: errors.New("bad line")}
	renewal := ended("renewal", time.Hour, "")
	renewal.State.Run.Workflow = "renew"
	runs := []journal.Listed{ended("old", 3*time.Hour, ""), ended("newest", 2*time.Hour, ""), ended("back", time.Hour, "failed"), open, damaged, renewal}
	cases := []struct {
		name      string
		run       int
		olderThan time.Duration
		why       string
	}{
		{"an old run goes", 0, 0, ""},
		{"an old run goes when it is older than asked for", 0, 2 * time.Hour, ""},
		{"one that is not stays", 0, 4 * time.Hour, "not old enough"},
		{"the newest completed run stays", 1, 0, "newest"},
		{"one that was rolled back goes, though it is newer", 2, 0, ""},
		{"an open one stays", 3, 0, "open"},
		{"one that cannot be read stays", 4, 0, "cannot be read"},
		{"one of another kind stays, too", 5, 0, "newest"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			why := keepRun(runs[c.run], newestCompleted(runs), now.Add(-c.olderThan))
			if !strings.Contains(why, c.why) || (why == "") != (c.why == "") {
				t.Errorf("%q", why)
			}
		})
	}
}

func TestADirectoryThatAStaticPodUsesIsKept(t *testing.T) {
	for _, c := range []struct {
		name, item, used string
		kept             bool
	}{
		{"it is the pod's", "/var/lib/etcdpod/runs/x", "/var/lib/etcdpod/runs/x", true},
		{"it holds the pod's", "/var/lib/etcdpod/runs/x", "/var/lib/etcdpod/runs/x/data", true},
		{"it lies in the pod's", "/var/lib/etcd/.etcdpod-x", "/var/lib/etcd", false},
		{"its name begins alike", "/var/lib/etcdpod/runs/x", "/var/lib/etcdpod/runs/xy", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if why := usedBy(c.item, []string{"/etc/ssl", c.used}); (why != "") != c.kept {
				t.Errorf("%q", why)
			}
		})
	}
}

func TestPruneRefusesWhileARunIsOpen(t *testing.T) {
	w, _ := newPruneWorld(t, scenario{})
	plan, err := PlanPrune(t.Context(), w.node.engineNode, w.node.Look, 0)
	if err != nil || len(plan.Items) != 1 || plan.Bytes == 0 {
		t.Fatalf("%+v, %v", plan, err)
	}
	w.wait(t, time.Hour)
	w.machine.CrashAt = 40
	_ = w.restore()
	w.machine.Revive()
	w.reboot()
	var open *OpenRunError
	if err := Prune(t.Context(), w.node.engineNode, w.node.Look, plan); !errors.As(err, &open) {
		t.Fatalf("%v", err)
	}
	if !w.there(plan.Items[0].Path) {
		t.Error("it was deleted all the same")
	}
	if now, err := PlanPrune(t.Context(), w.node.engineNode, w.node.Look, 0); err != nil || !slices.ContainsFunc(now.Kept, func(i PruneItem) bool { return i.Reason == "the run is open" }) {
		t.Errorf("%+v, %v", now, err)
	}
}

func TestPruneRefusesAPlanThatIsNoLongerTrue(t *testing.T) {
	w, first := newPruneWorld(t, scenario{})
	plan, err := PlanPrune(t.Context(), w.node.engineNode, w.node.Look, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		refused    bool
	}{
		{"the newest run", plan.Kept[len(plan.Kept)-1].Path, true},
		{"a directory that no run made", "/var/lib/etcd", true},
		{"what is gone", "/var/lib/etcdpod/runs/gone", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var refused *RefusedError
			err := Prune(t.Context(), w.node.engineNode, w.node.Look, PrunePlan{Items: []PruneItem{{Path: c.path}}})
			if errors.As(err, &refused) != c.refused || !c.refused && err != nil {
				t.Errorf("%v", err)
			}
			if !w.there(journal.RunDir(first)) || !w.there("/var/lib/etcd/member") {
				t.Error("something was deleted")
			}
		})
	}
}

func TestTheDataDirectoryBeforeAMoveIsAPersonsToDelete(t *testing.T) {
	w, _ := newPruneWorld(t, scenario{})
	completeRun(t, w, map[string]string{journal.NoteKeptData: "/var/lib/etcd"})
	w.wait(t, time.Hour)
	completeRun(t, w, nil)
	plan, err := w.prune()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(plan.Kept, func(i PruneItem) bool { return i.Path == "/var/lib/etcd" })
	if i < 0 || !strings.Contains(plan.Kept[i].Reason, "delete it yourself") {
		t.Errorf("%+v", plan)
	}
	if !w.there("/var/lib/etcd/member/snap/db") {
		t.Error("it was deleted")
	}
}

func TestPruneRemovesWhatNeverBeganAndWhatDeadBackupsLeft(t *testing.T) {
	w, _ := newPruneWorld(t, scenario{})
	never, foreign := journal.RunDir("20260101T000000Z-restore-0000"), journal.RunDir("notes")
	for _, dir := range []string{never, foreign, journal.BackupsDir} {
		if err := node.MkdirAll(w.machine.Disk, dir, node.Attr{Mode: 0o700}); err != nil {
			t.Fatal(err)
		}
	}
	dead := op.Workspace{Dir: journal.BackupsDir, Run: "dead"}
	for _, name := range []string{dead.Lock(), dead.Snapshot()} {
		if err := w.machine.Disk.Create(name, []byte("data"), node.Attr{Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.prune(); err != nil {
		t.Fatal(err)
	}
	for name, stays := range map[string]bool{never: false, foreign: true, dead.Lock(): false, dead.Snapshot(): false} {
		if w.there(name) != stays {
			t.Errorf("%s: there %v", name, !stays)
		}
	}
}
