package restore

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/prune"
)

// newPruneWorld is a node with a completed restore and a completed later run. It returns the id of
// the first.
func newPruneWorld(t *testing.T, s scenario) (*restoreWorld, string) {
	t.Helper()
	w := newWorld(t, s)
	if err := w.restore(); err != nil {
		t.Fatal(err)
	}
	runs, err := w.Process.Runs(t.Context())
	if err != nil || len(runs) != 1 {
		t.Fatalf("%v, %v", runs, err)
	}
	w.wait(t, time.Hour)
	completeRun(t, w, nil)
	w.Machine.Revive()
	w.reboot()
	return w, runs[0].ID
}

func (w *restoreWorld) wait(t *testing.T, d time.Duration) {
	t.Helper()
	if err := w.Machine.Host().Clock.Sleep(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// completeRun completes a restore that has nothing to do, and leaves these notes.
func completeRun(t *testing.T, w *restoreWorld, notes map[string]string) {
	t.Helper()
	flow := workflow{Name: "restore", Observe: func(context.Context, *observe.Node, string) (*Facts, error) {
		return &Facts{Facts: &observe.Facts{Notes: notes}}, nil
	}}
	if err := w.Do(flow.On(w.Process.Look)); err != nil {
		t.Fatal(err)
	}
}

// reboot is a new process that has read the kubelet's configuration.
func (w *restoreWorld) reboot() {
	w.Restart()
}

func (w *restoreWorld) prune() (prune.Plan, error) {
	plan, err := prune.Look(context.Background(), w.Process.Node, w.Process.Look, 0)
	if err != nil {
		return plan, err
	}
	return plan, prune.Delete(context.Background(), w.Process.Node, w.Process.Look, plan)
}

func (w *restoreWorld) there(name string) bool {
	_, err := w.Machine.Lstat(name)
	return err == nil
}

// prunable are scenarios with something to prune, and where each keeps the old data.
func prunable() map[string]func(run string) string {
	folder := func(run string) string { return path.Join(journal.RunDir(run), "data") }
	return map[string]func(string) string{
		"one file system":   folder,
		"the WAL elsewhere": folder,
		"the data directory is a mount point": func(run string) string {
			return "/var/lib/etcd/.etcdpod-" + run + "/data"
		},
		"the data directory is gone": nil,
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
			for _, how := range crashtest.Crashes() {
				for at := 1; ; at++ {
					w, first := newPruneWorld(t, s)
					if kept != nil && !w.there(kept(first)) {
						t.Fatalf("the restore did not keep the old data in %s", kept(first))
					}
					stopped, err := w.playPrune(first, at, how)
					if err != nil {
						t.Fatalf("%s at step %d: %v", how.Name, at, err)
					}
					if !stopped {
						break
					}
				}
			}
		})
	}
}

// playPrune stops a prune, and checks what the next one does.
func (w *restoreWorld) playPrune(first string, at int, how crashtest.Crash) (stopped bool, err error) {
	hidden := "/var/lib/etcd/" + journal.HiddenDir(first)
	before := w.Machine.Look(journal.Home, hidden)
	w.Machine.CrashAt = at
	_, err = w.prune()
	if stopped = w.Machine.Crashed(); stopped {
		how.After(w.Node, at)
	} else if err != nil {
		return false, err
	}
	w.Machine.CrashAt = 0
	w.reboot()
	runs, err := w.Process.Runs(context.Background())
	if err != nil || slices.ContainsFunc(runs, func(r engine.RunSummary) bool { return r.State != "completed" }) {
		return stopped, fmt.Errorf("the runs afterwards: %+v: %w", runs, err)
	}
	if _, err := w.prune(); err != nil {
		return stopped, fmt.Errorf("the next prune: %w", err)
	}
	if again, _ := w.Process.Runs(context.Background()); len(again) != 2 || again[0].ID != first {
		return stopped, fmt.Errorf("the history is %+v", again)
	}
	names, err := w.Machine.ReadDir(journal.RunDir(first))
	if err != nil || !slices.Equal(names, []string{journal.Name}) || w.there(hidden) {
		return stopped, fmt.Errorf("something else of the run is left than its journal: %q, %w", names, err)
	}
	if plan, err := w.prune(); err != nil || len(plan.Items)+len(plan.Kept) != 0 {
		return stopped, fmt.Errorf("a third prune finds %+v: %w", plan, err)
	}
	if after := w.Machine.Look(journal.Home, hidden); after != before {
		return stopped, fmt.Errorf("prune changed the node from\n%s\nto\n%s", before, after)
	}
	return stopped, nil
}

func TestPruneRefusesWhileARunIsOpen(t *testing.T) {
	w, _ := newPruneWorld(t, scenario{})
	plan, err := prune.Look(t.Context(), w.Process.Node, w.Process.Look, 0)
	if err != nil || len(plan.Items) != 1 || plan.Bytes == 0 {
		t.Fatalf("%+v, %v", plan, err)
	}
	w.wait(t, time.Hour)
	w.Machine.CrashAt = 40
	_ = w.restore()
	w.Machine.Revive()
	w.reboot()
	var open *engine.OpenRunError
	if err := prune.Delete(t.Context(), w.Process.Node, w.Process.Look, plan); !errors.As(err, &open) {
		t.Fatalf("%v", err)
	}
	if !w.there(plan.Items[0].Path) {
		t.Error("it was deleted all the same")
	}
	if now, err := prune.Look(t.Context(), w.Process.Node, w.Process.Look, 0); err != nil ||
		!slices.ContainsFunc(now.Kept, func(i prune.Item) bool { return i.Reason == "the run is open" }) {
		t.Errorf("%+v, %v", now, err)
	}
}

func TestPruneRefusesAPlanThatIsNoLongerTrue(t *testing.T) {
	w, first := newPruneWorld(t, scenario{})
	newest, err := w.Process.Show(t.Context(), "")
	if err != nil || newest.ID == first {
		t.Fatal(newest, err)
	}
	for _, c := range []struct {
		name, path string
		refused    bool
	}{
		{"the newest run", newest.Path, true},
		{"a directory that no run made", "/var/lib/etcd", true},
		{"what is gone", "/var/lib/etcdpod/runs/gone", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var refused *engine.RefusedError
			err := prune.Delete(t.Context(), w.Process.Node, w.Process.Look,
				prune.Plan{Items: []prune.Item{{Path: c.path}}})
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
	i := slices.IndexFunc(plan.Kept, func(i prune.Item) bool { return i.Path == "/var/lib/etcd" })
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
		if err := node.MkdirAll(w.Machine.Disk, dir, node.Attr{Mode: 0o700}); err != nil {
			t.Fatal(err)
		}
	}
	lock := journal.Home + "/backup-dead.lock"
	left := journal.BackupsDir + "/.etcdpod-dead-secret.db"
	for name, data := range map[string]string{lock: "", left: "data", journal.Home + "/backup-dead.json": fmt.Sprintf(
		`{"dir":%q,"run":"dead","secret":"secret","fs":"0","ino":%d}`,
		journal.BackupsDir, w.inode(t, journal.BackupsDir),
	)} {
		if err := w.Machine.Disk.Create(name, []byte(data), node.Mine(0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.prune(); err != nil {
		t.Fatal(err)
	}
	for name, stays := range map[string]bool{never: false, foreign: true, lock: false, left: false} {
		if w.there(name) != stays {
			t.Errorf("%s: there %v", name, !stays)
		}
	}
}

func (w *restoreWorld) inode(t *testing.T, name string) uint64 {
	t.Helper()
	st, err := w.Machine.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	return st.Ino
}
