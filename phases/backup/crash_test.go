package backup

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
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

// The crash matrix of backups: a backup is stopped at every step, in every way. Then no file has
// its name, or the file and its sidecar are whole; no older backup is gone that should have stayed;
// and the next backup succeeds, and leaves nothing of the dead one.

// backupCase is one way to ask for a backup. /backups holds three older ones.
type backupCase struct {
	name    string
	options Options
	left    int // backups in the directory after one more was taken
	already int
}

func backupCases() []backupCase {
	return []backupCase{
		{"into a directory", Options{Dir: "/backups"}, 4, 3},
		{"into a directory, keeping three", Options{Dir: "/backups", Keep: 3}, 3, 3},
		{"into a directory, keeping one", Options{Dir: "/backups", Keep: 1}, 1, 3},
		{"into a directory that is not there", Options{Dir: "/var/new/backups", Keep: 2}, 1, 0},
		{"to a file", Options{File: "/backups/mine.db"}, 4, 3},
		{"of a data directory", Options{Dir: "/backups", FromDataDir: "/backup/etcd", Keep: 3}, 3, 3},
		{"encrypted", Options{Dir: "/backups", EncryptTo: []string{testRecipient}}, 4, 3},
		{"encrypted and signed, keeping two", Options{Dir: "/backups", EncryptTo: []string{testRecipient}, Keep: 2,
			SignKey: "/etc/etcdpod/sign.key"}, 2, 3},
		{"encrypted, into a directory that is not there", Options{Dir: "/var/new/backups", Keep: 1,
			EncryptTo: []string{testRecipient}}, 1, 0},
		{"encrypted, to a file", Options{File: "/backups/mine.db.zst.age", EncryptTo: []string{testRecipient},
			SignKey: "/etc/etcdpod/sign.key"}, 4, 3},
		{"compressed, of a data directory", Options{Dir: "/backups", FromDataDir: "/backup/etcd", Compress: true,
			Keep: 3}, 3, 3},
	}
}

// backupWorld is a simulated node with three backups.
type backupWorld struct {
	*crashtest.Node
	backupCase
	dir string
}

func newBackupWorld(t *testing.T, c backupCase) *backupWorld {
	t.Helper()
	machine := crashtest.Shape{Prepare: func(d *sim.Disk) {
		for i := range 3 {
			putOldBackup(t, d, i)
		}
		putKey(t, d)
	}}.Machine(t)
	w := &backupWorld{Node: crashtest.Alone(t, machine), backupCase: c, dir: c.options.Dir}
	if w.dir == "" {
		w.dir = path.Dir(c.options.File)
	}
	return w
}

func putOldBackup(t *testing.T, d *sim.Disk, i int) {
	t.Helper()
	s := Sidecar{Node: "cp1", Revision: int64(i), ClusterID: "1", TakenAt: time.Unix(1_600_000_000+int64(i), 0).UTC()}
	putBackup(t, d, path.Join("/backups", op.BackupName(s)), s)
}

// putBackup makes a backup with this sidecar.
func putBackup(t *testing.T, d *sim.Disk, file string, s Sidecar) {
	t.Helper()
	data := []byte("data")
	s.Path, s.SHA256 = file, sim.Sum(data)
	body, err := json.Marshal(s)
	if err == nil {
		err = node.MkdirAll(d, path.Dir(file), node.Attr{Mode: 0o700})
	}
	if err == nil {
		err = d.Create(file, data, node.Mine(0o600))
	}
	if err == nil {
		err = d.Create(op.SidecarOf(file), body, node.Mine(0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (w *backupWorld) workflow(o Options) workflow {
	backup := Workflow(o)
	backup.Observe = func(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
		seen, err := w.Observe(id)
		if err != nil {
			return nil, err
		}
		f := &Facts{Facts: seen}
		f.Live, f.Access = &observe.Live{}, f.Etcd.Access
		if f.Backup, err = o.place(n, seen); err != nil {
			return nil, err
		}
		f.Backup.Cluster = "1"
		f.Sealing, err = o.sealing(n, seen, f.Backup)
		return f, err
	}
	return backup
}

func (w *backupWorld) backup(o Options) error {
	_, err := Take(context.Background(), w.Process.Node, w.workflow(o).On(w.Process.Look), func(engine.Plan) error {
		return nil
	})
	return err
}

// simRevision is the revision of each backup that the simulated etcd gives; the old ones have
// others.
const simRevision = 5

// backups counts the backups in the directory, and reports what is wrong with them.
func (w *backupWorld) backups() (whole int, err error) {
	if err := w.Violated(); err != nil {
		return 0, err
	}
	names, _ := w.Machine.ReadDir(w.dir)
	for _, name := range names {
		if strings.HasPrefix(name, ".") || !op.IsBackup(name) {
			continue
		}
		if isSealed(name) {
			there, err := w.sealedBackup(path.Join(w.dir, name))
			if err != nil {
				return 0, err
			}
			whole += there
			continue
		}
		data, err := w.Machine.ReadFile(path.Join(w.dir, name))
		if err != nil {
			return 0, err
		}
		s, err := SidecarOf(w.Machine.Disk, path.Join(w.dir, name))
		if err != nil || s == nil || s.SHA256 != sim.Sum(data) {
			return 0, fmt.Errorf("%s holds %q, but its sidecar says %+v, %v", name, data, s, err)
		}
		if taken := s.Revision == simRevision; taken && (len(s.HashSteps) == 0 || s.Source == "") {
			return 0, fmt.Errorf("the sidecar of %s has lost the steps of the hash, or the source: %+v", name, s)
		}
		whole++
	}
	return whole, nil
}

// play stops one backup, checks, and takes another one.
func (w *backupWorld) play(at int, how crashtest.Crash) (stopped bool, err error) {
	w.Machine.CrashAt = at
	err = w.backup(w.options)
	if stopped = w.Machine.Crashed(); stopped {
		call := w.Machine.Calls[len(w.Machine.Calls)-1]
		how.After(w.Node, at)
		w.Restart()
		if err := w.afterCrash(); err != nil {
			return true, fmt.Errorf("stopped at %q: %w", call, err)
		}
	} else if err != nil {
		return false, fmt.Errorf("the backup that nothing stops: %w", err)
	}
	return stopped, nil
}

func (w *backupWorld) afterCrash() error {
	whole, err := w.backups()
	if err != nil {
		return err
	}
	if least := min(w.already, w.left); whole < least {
		return fmt.Errorf("%d backups are left of %d", whole, least)
	}
	again := w.options
	if again.File != "" {
		again.File = strings.Replace(again.File, "mine", "another", 1)
	}
	if err := w.backup(again); err != nil {
		return fmt.Errorf("the next backup: %w", err)
	}
	return w.settled(whole)
}

// settled checks the directory after a successful backup, as a power loss would leave it.
func (w *backupWorld) settled(before int) error {
	w.Machine.PowerLoss(sim.DropUnsynced, rand.New(rand.NewPCG(1, 1)))
	if left := w.plainLeft(); len(left) > 0 {
		return fmt.Errorf("the snapshot itself is left: %q", left)
	}
	want := before + 1
	if w.options.Keep > 0 {
		want = min(want, w.options.Keep)
	}
	if whole, err := w.backups(); err != nil || whole != want {
		return fmt.Errorf("%d backups are there, and not %d: %v", whole, want, err)
	}
	names, _ := w.Machine.ReadDir(w.dir)
	for _, name := range names {
		snapshot, ok := strings.CutSuffix(strings.TrimSuffix(name, ".sig"), ".json")
		_, err := w.Machine.Lstat(path.Join(w.dir, snapshot))
		if strings.HasPrefix(name, ".") || ok && err != nil && !w.oldOrphan(snapshot) {
			return fmt.Errorf("%s was left", name)
		}
	}
	return nil
}

// oldOrphan says whether a snapshot is an old one that was being removed when the first backup
// died: its sidecar may be left.
func (w *backupWorld) oldOrphan(snapshot string) bool {
	return w.options.Keep > 0 && strings.Contains(snapshot, "-2020")
}

func TestABackupStoppedAnywhereIsWholeOrNotThere(t *testing.T) {
	for _, c := range backupCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, how := range crashtest.Crashes() {
				steps := 0
				for at := 1; ; at++ {
					stopped, err := newBackupWorld(t, c).play(at, how)
					if err != nil {
						t.Fatalf("%s at step %d: %v", how.Name, at, err)
					}
					if !stopped {
						break
					}
					steps++
				}
				if steps < 10 {
					t.Errorf("%s: only %d steps", how.Name, steps)
				}
			}
		})
	}
}

func TestABackupThatEndedWellSurvivesAPowerLoss(t *testing.T) {
	for _, c := range backupCases() {
		t.Run(c.name, func(t *testing.T) {
			w := newBackupWorld(t, c)
			if err := w.backup(c.options); err != nil {
				t.Fatal(err)
			}
			if err := w.settled(c.already); err != nil {
				t.Error(err)
			}
		})
	}
}

// A failure (not a crash) leaves everything as it was, or a good backup that is reported as one.
func TestAFailureAtAnyStepOfABackupLeavesNothingOfIt(t *testing.T) {
	for _, c := range backupCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for at := 1; ; at++ {
				w := newBackupWorld(t, c)
				w.Machine.FailAt, w.Machine.FailWith = at, crashtest.ErrNoSpace
				err := w.backup(c.options)
				if w.Machine.Steps < at {
					return
				}
				call := w.Machine.Calls[at-1]
				whole, odd := w.backups()
				switch now := w.Machine.Look("/var/lib/etcdpod"); {
				case odd != nil:
					t.Fatalf("%s failed: %v", call, odd)
				case err != nil && now != w.First:
					t.Fatalf("%s failed with %v, and left\n%s", call, err, now)
				case err == nil && whole < c.left:
					t.Fatalf("%s failed, and %d backups of %d are left", call, whole, c.left)
				}
			}
		})
	}
}

// The matrix must notice if directories are not synced.
func TestTheMatrixOfBackupsCatchesMissingSyncs(t *testing.T) {
	w := newBackupWorld(t, backupCases()[0])
	w.Machine.ForgetDirSync = true
	if err := w.backup(w.options); err != nil {
		t.Fatal(err)
	}
	if err := w.settled(3); err == nil {
		t.Error("the matrix did not notice")
	}
}

func TestTheTemporaryFilesOfALiveBackupStay(t *testing.T) {
	w := newBackupWorld(t, backupCases()[0])
	// A backup that is killed leaves its files; a lock says whether its process lives.
	w.Machine.CrashAt = w.stepOf(t, "create /backups/.etcdpod-", ".db")
	if err := w.backup(w.options); err == nil {
		t.Fatal("it was not stopped")
	}
	w.Machine.Revive()
	w.Restart()
	left := w.hidden()
	if len(left) == 0 {
		t.Fatal("nothing is left")
	}
	unlock, err := w.Machine.Disk.Lock(w.lock(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.backup(w.options); err != nil {
		t.Fatal(err)
	}
	if now := w.hidden(); !slices.Equal(now, left) {
		t.Fatalf("a live backup had %v, and has %v", left, now)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := w.backup(w.options); err != nil {
		t.Fatal(err)
	}
	if now := w.hidden(); len(now) > 0 {
		t.Errorf("what a dead backup left is there still: %v", now)
	}
}

// hidden are the hidden files in the directory of the backups.
func (w *backupWorld) hidden() (names []string) {
	all, _ := w.Machine.ReadDir(w.dir)
	for _, name := range all {
		if strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	return names
}

// lock is the lock of the only backup that is not ended.
func (w *backupWorld) lock(t *testing.T) string {
	t.Helper()
	names, _ := w.Machine.ReadDir(journal.Home)
	for _, name := range names {
		if strings.HasSuffix(name, ".lock") {
			return path.Join(journal.Home, name)
		}
	}
	t.Fatalf("there is no lock among %v", names)
	return ""
}

// stepOf is the step behind the one whose description begins and ends so, on a node of its own.
func (w *backupWorld) stepOf(t *testing.T, begins, ends string) int {
	t.Helper()
	other := newBackupWorld(t, w.backupCase)
	if err := other.backup(other.options); err != nil {
		t.Fatal(err)
	}
	for i, call := range other.Machine.Calls {
		if strings.HasPrefix(call, begins) && strings.HasSuffix(call, ends) {
			return i + 3 // the file has its name, and what was written to it
		}
	}
	t.Fatalf("no step %s…%s among %v", begins, ends, other.Machine.Calls)
	return 0
}
