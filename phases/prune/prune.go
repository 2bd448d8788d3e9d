package prune

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// leaving is one thing that can be deleted, and how.
type leaving struct {
	Item
	remove func() error
}

// pruner finds what can be deleted, and deletes it.
type pruner struct {
	*observe.Node
	disk node.FS
}

// Look says what may be deleted of what ended runs kept and dead backups left, and what is kept and
// why. It spares whatever is younger than olderThan (by the run's last record), whatever an open
// run or the newest completed one needs, and whatever is not known to belong to a run. Bytes are
// apparent sizes: the sum of the files' lengths.
func Look(ctx context.Context, n *engine.Node, look *observe.Node, olderThan time.Duration) (Plan, error) {
	leavings, kept, err := pruner{look, n.Host.FS}.leavings(ctx, olderThan)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Items: []Item{}, Kept: kept}
	for _, l := range leavings {
		plan.Items = append(plan.Items, l.Item)
		plan.Bytes += l.Bytes
	}
	if err := n.OnControlPlane(ctx); err != nil && len(leavings)+len(kept) == 0 {
		plan.elsewhere = err.Error()
	}
	return plan, nil
}

// Delete deletes what a plan says. It refuses while a run is open, or when something in the plan
// may no longer be deleted. A run's journal stays: it says what was done here, and, where this is
// cut off, what the next prune has left to do.
func Delete(ctx context.Context, n *engine.Node, look *observe.Node, plan Plan) (err error) {
	if plan.elsewhere != "" {
		return nil
	}
	unlock, err := n.LockIdle(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	now, _, err := pruner{look, n.Host.FS}.leavings(ctx, 0)
	if err != nil {
		return err
	}
	chosen, err := choose(now, plan, func(name string) bool { _, err := n.Host.FS.Lstat(name); return err == nil })
	if err != nil {
		return err
	}
	for _, l := range chosen {
		if err := l.remove(); err != nil {
			return fmt.Errorf("cannot prune %s: %w", l.Path, err)
		}
	}
	return journal.GiveBack(n.Host.FS)
}

// choose picks from now what the plan names. It ignores what is already gone.
func choose(now []leaving, plan Plan, there func(string) bool) ([]leaving, error) {
	for _, item := range plan.Items {
		may := slices.ContainsFunc(now, func(l leaving) bool { return l.Path == item.Path && l.Run == item.Run })
		if !may && there(item.Path) {
			return nil, engine.Refuse("check again with `etcdpod prune --dry-run`",
				"cannot prune %s: it must not be deleted any more", item.Path)
		}
	}
	var chosen []leaving
	for _, l := range now {
		if slices.ContainsFunc(plan.Items, func(i Item) bool { return i.Path == l.Path && i.Run == l.Run }) {
			chosen = append(chosen, l)
		}
	}
	return chosen, nil
}

// leavings finds what can be deleted, in the order in which it must be, and what is kept.
func (n pruner) leavings(
	ctx context.Context, olderThan time.Duration,
) (leavings []leaving, kept []Item, err error) {
	runs, err := journal.List(n.FS)
	if err != nil {
		return nil, nil, engine.RefuseKind(err)
	}
	used, err := n.usedPaths(ctx)
	if err != nil {
		return nil, nil, err
	}
	kept = []Item{}
	oldest := n.Clock.Now().Add(-olderThan)
	newest := newestCompleted(runs)
	for _, r := range runs {
		items := n.traces(r)
		reason := keepRun(r, newest, oldest)
		for _, l := range items {
			if reason == "" {
				reason = usedBy(l.Path, used)
			}
		}
		if reason == "" && len(items) > 0 { // else there is nothing but its journal, which stays
			if reason, err = n.stranger(r, items); err != nil {
				return nil, nil, err
			}
		}
		moved := n.movedFrom(r)
		if reason == "" && moved != nil && r.State.Run.Notes[journal.NoteKeptWAL] != "" {
			reason = "holds the WAL of " + moved.Path
		}
		for _, l := range items {
			if reason != "" {
				l.Reason = reason
				kept = append(kept, l.Item)
				continue
			}
			leavings = append(leavings, l)
		}
		if moved != nil {
			kept = append(kept, *moved)
		}
	}
	more, err := n.rest(runs, oldest)
	return append(leavings, more...), kept, err
}

// stranger says what lies among a run's things that the run has not put there: data that somebody
// moved there, or that was on another disk. Empty: there is nothing of the kind.
func (n pruner) stranger(r journal.Listed, items []leaving) (string, error) {
	if r.State == nil {
		return "", nil
	}
	known := map[string]bool{}
	for _, step := range r.State.Steps {
		o, err := op.Decode(step.Kind, step.Op)
		if err != nil {
			continue
		}
		if stage, ok := o.(*op.StageData); ok {
			known[path.Join(stage.Dir, "member")] = true
		}
		for _, kept := range op.Keeps(o) {
			known[kept.Path] = true
			if step.Progress == journal.Pending && !n.Exists(kept.Path) {
				continue
			}
			strange, err := kept.Stranger(n.disk)
			if err != nil {
				return "", err
			}
			if strange {
				return fmt.Sprintf("%s holds data, and nothing shows that this run created or replaced it: move it "+
					"away, or delete it yourself", kept.Path), nil
			}
		}
	}
	for _, l := range items {
		if at := n.members(l.Path, known); at != "" {
			return fmt.Sprintf("%s holds an etcd's data that this run did not put there: move it away, or delete it "+
				"yourself", at), nil
		}
	}
	return "", nil
}

// members is a member directory below a name, as somebody may have moved it there; empty if there
// is none but those that are known.
func (n pruner) members(name string, known map[string]bool) string {
	if known[name] || !node.IsDir(n.FS, name) {
		return ""
	}
	if n.Exists(path.Join(name, "snap/db")) {
		return name
	}
	names, _ := n.FS.ReadDir(name)
	for _, below := range names {
		if at := n.members(path.Join(name, below), known); at != "" {
			return at
		}
	}
	return ""
}

// newestCompleted are the ids of the newest completed runs, by workflow: what a restore kept must
// not go because a renewal kept something later.
func newestCompleted(runs []journal.Listed) map[string]string {
	ids, ended := map[string]string{}, map[string]time.Time{}
	for _, r := range runs {
		if r.State == nil || r.State.Outcome() != journal.Completed {
			continue
		}
		if workflow := r.State.Run.Workflow; !r.State.Last.Before(ended[workflow]) {
			ids[workflow], ended[workflow] = r.ID, r.State.Last
		}
	}
	return ids
}

// keepRun says why nothing of a run may be deleted; empty if it may.
func keepRun(r journal.Listed, newest map[string]string, oldest time.Time) string {
	switch {
	case r.State == nil:
		return fmt.Sprintf("its journal cannot be read: %v", r.Err)
	case !r.State.Ended:
		return "the run is open"
	case r.ID == newest[r.State.Run.Workflow]:
		return "belongs to the newest finished run of its kind"
	case r.State.Last.After(oldest):
		return "not old enough"
	}
	return ""
}

// usedPaths lists what the static pods mount: nothing that contains such a path may be deleted.
func (n pruner) usedPaths(ctx context.Context) ([]string, error) {
	files, err := n.Manifests(ctx, n.Config.StaticPodPath)
	if err != nil {
		return nil, err
	}
	var used []string
	for _, m := range files {
		if m.Manifest == nil {
			continue
		}
		for _, h := range m.Manifest.HostPaths() {
			resolved, err := n.Resolve(h.Path)
			if err != nil {
				return nil, err
			}
			used = append(used, path.Clean(h.Path), resolved)
		}
	}
	return used, nil
}

func usedBy(name string, used []string) string {
	for _, u := range used {
		if observe.Within(u, name) {
			return fmt.Sprintf("a static pod uses %s", u)
		}
	}
	return ""
}

// traces are the directories of one run: the hidden ones beside the data, as its journal names
// them, then its folder.
func (n pruner) traces(r journal.Listed) []leaving {
	folder := journal.RunDir(r.ID)
	var found []leaving
	for _, dir := range StageDirs(r) {
		if _, err := n.FS.Lstat(dir); err == nil {
			found = append(found, leaving{n.item(dir, r), func() error { return node.RemoveTree(n.disk, dir) }})
		}
	}
	if r.State != nil && n.onlyJournal(folder) {
		return found
	}
	whole := n.item(folder, r)
	if r.State != nil {
		whole.Bytes -= n.apparentSize(path.Join(folder, journal.Name))
	}
	return append(found, leaving{whole, func() error { return n.emptyRun(folder) }})
}

func (n pruner) item(dir string, r journal.Listed) Item {
	i := Item{Path: dir, Run: r.ID, Bytes: n.apparentSize(dir)}
	if r.State != nil {
		i.Time = r.State.Last
	}
	return i
}

// StageDirs lists the hidden directories that a run staged in, outside its folder.
func StageDirs(r journal.Listed) []string {
	if r.State == nil {
		return nil
	}
	var dirs []string
	for _, step := range r.State.Steps {
		o, err := op.Decode(step.Kind, step.Op)
		if err != nil {
			continue
		}
		dir := ""
		switch o := o.(type) {
		case *op.MakeDirectory:
			dir = o.Path
		case *op.ClaimData:
			dir = path.Dir(o.Keep)
		}
		if path.Base(dir) == journal.HiddenDir(r.ID) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// movedFrom is the data directory that a completed run with --data-dir left behind. It belonged to
// a person before, so only a person may decide to delete it.
func (n pruner) movedFrom(r journal.Listed) *Item {
	if r.State == nil || r.State.Outcome() != journal.Completed {
		return nil
	}
	dir := r.State.Run.Notes[journal.NoteKeptData]
	if dir == "" || observe.Within(dir, journal.RunDir(r.ID)) ||
		slices.ContainsFunc(StageDirs(r), func(s string) bool { return observe.Within(dir, s) }) {
		return nil
	}
	if _, err := n.FS.Lstat(dir); err != nil {
		return nil
	}
	i := n.item(dir, r)
	i.Reason = "the data directory before --data-dir: no run created it, so delete it yourself once you no longer " +
		"need it"
	return &i
}

// emptyRun deletes all in a run's folder but the journal.
func (n pruner) emptyRun(folder string) error {
	names, err := n.FS.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == journal.Name {
			continue
		}
		if err := node.RemoveTree(n.disk, path.Join(folder, name)); err != nil {
			return err
		}
	}
	return nil
}

// rest finds folders of runs that never began, and what dead backups left.
func (n pruner) rest(runs []journal.Listed, oldest time.Time) ([]leaving, error) {
	names, err := n.FS.ReadDir(journal.RunsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list the runs: %w", err)
	}
	var found []leaving
	add := func(name string, bytes int64, remove func() error) {
		if st, err := n.FS.Lstat(name); err == nil && !st.ModTime.After(oldest) {
			found = append(found, leaving{Item{Path: name, Bytes: bytes, Time: st.ModTime.UTC()}, remove})
		}
	}
	for _, id := range names {
		folder := journal.RunDir(id)
		if slices.ContainsFunc(runs, func(r journal.Listed) bool { return r.ID == id }) ||
			!journal.IsRunID(id) || !n.onlyJournal(folder) {
			continue
		}
		add(folder, 0, func() error { return node.RemoveTree(n.disk, folder) })
	}
	dead, err := op.DeadBackups(n.disk, journal.Home)
	if err != nil {
		return nil, err
	}
	for _, d := range dead {
		if d.Away {
			continue
		}
		bytes := int64(0)
		for _, file := range d.Files {
			bytes += n.apparentSize(file)
		}
		add(d.Record(), bytes, func() error { return d.Remove(n.disk) })
	}
	return found, nil
}

// onlyJournal says whether a folder holds nothing but, perhaps, a journal.
func (n pruner) onlyJournal(folder string) bool {
	names, err := n.FS.ReadDir(folder)
	return err == nil && (len(names) == 0 || len(names) == 1 && names[0] == journal.Name)
}

// apparentSize adds up the lengths of the files below a name. What cannot be read counts as
// nothing.
func (n pruner) apparentSize(name string) int64 {
	st, err := n.FS.Lstat(name)
	if err != nil || !st.Mode.IsDir() {
		return st.Size
	}
	names, _ := n.FS.ReadDir(name)
	total := int64(0)
	for _, child := range names {
		total += n.apparentSize(path.Join(name, child))
	}
	return total
}
