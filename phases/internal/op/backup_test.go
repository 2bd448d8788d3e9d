package op

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// fileEtcd is an etcd whose snapshots are small files.
type fileEtcd struct {
	Etcd
	spoil bool // the disk returns other data
}

func (e fileEtcd) Save(_ context.Context, a Access, snapshot string, _ func(int64, int64)) (Saved, error) {
	data := []byte(a.Endpoints[0])
	return Saved{Trailer: sum(data), SizeBytes: int64(len(data)), EtcdVersion: "3.6.5", ClusterID: 0xabc},
		os.WriteFile(snapshot, data, 0o600)
}

func (e fileEtcd) Examine(_ context.Context, snapshot string, _ func(int64, int64)) (Contents, error) {
	data, err := os.ReadFile(snapshot)
	if e.spoil {
		data = make([]byte, len(data))
	}
	return Contents{Proof: Proof{SHA256: sum(data), SizeBytes: int64(len(data)), Revision: 5}, Trailer: sum(data)}, err
}

func sum(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

func diskTarget(e Etcd) *Target {
	return &Target{Host: &node.Host{FS: node.OS("/"), Clock: node.WallClock()}, Etcd: e}
}

// openBackup keeps its records beside the directory of the backup.
func openBackup(w Workspace, known Sidecar) *OpenBackup {
	return &OpenBackup{Workspace: w, Sidecar: known, At: w.Dir, Records: filepath.Join(filepath.Dir(w.Dir), "home")}
}

// take makes a whole backup, and undoes it on failure.
func take(t *Target, w Workspace, file string) error {
	w.Draft = NewDraft()
	keep := &KeepBackup{Workspace: w, File: file}
	ops := []Op{
		openBackup(w, Sidecar{Node: w.Run}),
		&SaveSnapshot{Workspace: w, Access: Access{Endpoints: []string{"https://" + w.Run}}},
		&ProveBackup{Workspace: w}, keep,
	}
	for i, o := range ops {
		if err := o.Do(context.Background(), t); err != nil {
			for ; i >= 0; i-- {
				err = errors.Join(err, ops[i].Undo(context.Background(), t))
			}
			return err
		}
	}
	return nil
}

func visible(t *testing.T, dir string) (kept, hidden int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			hidden++
		} else {
			kept++
		}
	}
	return kept, hidden
}

func TestBackupsIntoOneDirectoryAtOnceDoNotTakeEachOtherForDead(t *testing.T) {
	dir := t.TempDir()
	const processes, rounds = 6, 10
	var all sync.WaitGroup
	failed := make(chan error, processes*rounds)
	for p := range processes {
		all.Go(func() {
			for r := range rounds {
				failed <- take(diskTarget(fileEtcd{}), Workspace{Dir: dir, Run: fmt.Sprintf("p%d-r%d", p, r)}, "")
			}
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			t.Error(err)
		}
	}
	if kept, hidden := visible(t, dir); kept != 2*processes*rounds || hidden != 0 {
		t.Errorf("%d files and %d hidden ones", kept, hidden)
	}
}

func TestABackupToAFileThatAppearedMeanwhileLeavesItAlone(t *testing.T) {
	for _, taken := range []string{"mine.db", "mine.db.json"} {
		t.Run(taken, func(t *testing.T) {
			dir := t.TempDir()
			theirs := filepath.Join(dir, taken)
			if err := os.WriteFile(theirs, []byte("theirs"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := take(diskTarget(fileEtcd{}), Workspace{Dir: dir, Run: "x"},
				filepath.Join(dir, "mine.db")); err == nil {
				t.Error("it was not refused")
			}
			if data, err := os.ReadFile(theirs); err != nil || string(data) != "theirs" {
				t.Errorf("%q, %v", data, err)
			}
			if kept, hidden := visible(t, dir); kept != 1 || hidden != 0 {
				t.Errorf("%d files and %d hidden ones", kept, hidden)
			}
		})
	}
}

func TestASnapshotThatTheDiskDoesNotGiveBackIsNotKept(t *testing.T) {
	dir := t.TempDir()
	err := take(diskTarget(fileEtcd{spoil: true}), Workspace{Dir: dir, Run: "x"}, "")
	if err == nil || !strings.Contains(err.Error(), "the disk does not return what was written to") {
		t.Errorf("%v", err)
	}
	if kept, hidden := visible(t, dir); kept != 0 || hidden != 0 {
		t.Errorf("%d files and %d hidden ones", kept, hidden)
	}
}

func TestABackupAndItsSidecarAreForTheirOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mine.db")
	if err := take(diskTarget(fileEtcd{}), Workspace{Dir: dir, Run: "x"}, file); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, SidecarOf(file)} {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	s, _, err := ReadSidecar(node.OS("/"), SidecarOf(file))
	if err != nil || s.Path != file || s.ClusterID != "abc" ||
		s.EtcdVersion != "3.6.5" || s.SHA256 != sum([]byte("https://x")) || s.Revision != 5 || s.TakenAt.IsZero() {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestABackupIsNamedByNodeTimeAndRevision(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("east", 3600))
	for _, c := range []struct{ node, want string }{
		{"cp1", "etcd-cp1-20260102T020405Z-r7.db"},
		{"cp1.example.com", "etcd-cp1.example.com-20260102T020405Z-r7.db"},
		{"../etc/x y", "etcd-.._etc_x_y-20260102T020405Z-r7.db"},
	} {
		name := BackupName(Sidecar{Node: c.node, TakenAt: at, Revision: 7})
		if name != c.want {
			t.Errorf("%s: %s", c.node, name)
		}
		if !isBackupOf(c.node, name) || isBackupOf(c.node+"x", name) ||
			isBackupOf(c.node, "x"+name) || isBackupOf(c.node, name+".json") {
			t.Errorf("%s is not told apart", name)
		}
	}
}

// plant puts something where an earlier version trusted it.
func plant(t *testing.T, name, data string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestNothingPlantedBesideABackupIsWrittenThroughOrBelieved(t *testing.T) {
	dir, victims := t.TempDir(), t.TempDir()
	written := plant(t, filepath.Join(victims, "shadow"), "precious")
	removed := plant(t, filepath.Join(victims, "daemon.json"), `{"path":"x"}`)
	planted := []string{
		plant(t, filepath.Join(dir, ".etcdpod-x.lock"), ""),
		plant(t, filepath.Join(dir, ".etcdpod-x.json"), fmt.Sprintf(`{"path":%q}`, filepath.Join(victims, "daemon"))),
		plant(t, filepath.Join(dir, "backup-x.lock"), ""),
		plant(t, filepath.Join(dir, "backup-x.json"), fmt.Sprintf(`{"dir":%q,"path":%q}`, victims, removed)),
	}
	for _, name := range []string{".etcdpod-r.json", "..etcdpod-r.json.etcdpod", ".etcdpod-r.db", ".etcdpod-r.sidecar",
		".etcdpod-r.mark", ".etcdpod-r.lock"} {
		planted = append(planted, filepath.Join(dir, name))
		if err := os.Symlink(written, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := take(diskTarget(fileEtcd{}), Workspace{Dir: dir, Run: "r"}, filepath.Join(dir, "mine.db")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{written: "precious", removed: `{"path":"x"}`} {
		if data, err := os.ReadFile(name); err != nil || string(data) != want {
			t.Errorf("%s holds %q, %v", name, data, err)
		}
	}
	for _, name := range planted {
		if _, err := os.Lstat(name); err != nil {
			t.Errorf("what somebody else put there is gone: %v", err)
		}
	}
}

func TestWhatADeadBackupLeftIsRemovedOnlyIfItMadeIt(t *testing.T) {
	for name, swap := range map[string]func(t *testing.T, file string){
		"as it was left": nil,
		"another file has the name by now": func(t *testing.T, file string) {
			plant(t, file+".new", "theirs")
			if err := os.Rename(file+".new", file); err != nil {
				t.Fatal(err)
			}
		},
		"a link has the name by now": func(t *testing.T, file string) {
			target := plant(t, filepath.Join(t.TempDir(), "target"), "theirs")
			if err := errors.Join(os.Remove(file), os.Symlink(target, file)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			dir, home := filepath.Join(top, "backups"), filepath.Join(top, "home")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			w := Workspace{Dir: dir, Run: "dead", Draft: NewDraft()}
			open := openBackup(w, Sidecar{})
			save := &SaveSnapshot{Workspace: w, Access: Access{Endpoints: []string{"https://x"}}}
			for _, o := range []Op{open, save} {
				if err := o.Do(t.Context(), diskTarget(fileEtcd{})); err != nil {
					t.Fatal(err)
				}
			}
			// The end of its process gives up the lock.
			if err := errors.Join(open.record.unlock(), open.held.Close()); err != nil {
				t.Fatal(err)
			}
			if swap != nil {
				swap(t, w.Snapshot())
			}
			if err := take(diskTarget(fileEtcd{}), Workspace{Dir: dir, Run: "next"}, ""); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(w.Snapshot()); (err == nil) != (swap != nil) {
				t.Errorf("what has the name: %v", err)
			}
			names, err := os.ReadDir(home)
			if err != nil || len(names) != 1 || names[0].Name() != filepath.Base(lastBackupIn(home)) {
				t.Errorf("there are still records: %v, %v", names, err)
			}
		})
	}
}

func TestABackupNeedsNoRecord(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "backups")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	plant(t, filepath.Join(top, "home"), "a file is there, and no directory can be made")
	var said []string
	target := diskTarget(fileEtcd{})
	target.Report = func(message string) { said = append(said, message) }
	target.Warn = func(f finding.Finding) { said = append(said, f.Text) }
	if err := take(target, Workspace{Dir: dir, Run: "x"}, filepath.Join(dir, "mine.db")); err != nil {
		t.Fatal(err)
	}
	if kept, hidden := visible(t, dir); kept != 2 || hidden != 0 || len(said) == 0 {
		t.Errorf("%d files and %d hidden ones; it was said %q", kept, hidden, said)
	}
}

func TestRotationDoesNotCountWhatOthersPutThere(t *testing.T) {
	dir := t.TempDir()
	w := Workspace{Dir: dir, Run: "x"}
	if err := take(diskTarget(fileEtcd{}), w, ""); err != nil {
		t.Fatal(err)
	}
	// A link with a name as a backup of the node has it, and a description through a link.
	elsewhere := plant(t, filepath.Join(t.TempDir(), "elsewhere"), "theirs")
	described := plant(t, elsewhere+".json", `{"node":"x","clusterID":"abc","takenAt":"2099-01-01T00:00:00Z"}`)
	link, pretended := filepath.Join(dir, "etcd-x-20990101T000000Z-r5.db"), filepath.Join(dir,
		"etcd-x-20990101T000001Z-r5.db")
	plant(t, pretended, "theirs")
	if err := errors.Join(os.Symlink(elsewhere, link), os.Symlink(described, SidecarOf(link)),
		os.Symlink(described, SidecarOf(pretended))); err != nil {
		t.Fatal(err)
	}
	keep := &KeepBackup{Workspace: Workspace{Dir: dir, Run: "y", Draft: NewDraft()}, Keep: 2}
	ops := []Op{
		openBackup(keep.Workspace, Sidecar{Node: "x"}),
		&SaveSnapshot{Workspace: keep.Workspace, Access: Access{Endpoints: []string{"https://y"}}},
		&ProveBackup{Workspace: keep.Workspace}, keep,
	}
	for _, o := range ops {
		if err := o.Do(t.Context(), diskTarget(fileEtcd{})); err != nil {
			t.Fatal(err)
		}
	}
	backups, err := filepath.Glob(filepath.Join(dir, "etcd-x-20[^9]*.db"))
	if err != nil || len(backups) != 2 {
		t.Errorf("of two backups, %v are left: %v", backups, err)
	}
	for _, name := range []string{link, pretended, elsewhere, described} {
		if _, err := os.Lstat(name); err != nil {
			t.Error(err)
		}
	}
}
