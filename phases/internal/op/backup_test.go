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

// take makes a whole backup, and undoes it on failure.
func take(t *Target, w Workspace, file string) error {
	keep := &KeepBackup{Workspace: w, File: file}
	ops := []Op{
		&OpenBackup{Workspace: w, Sidecar: Sidecar{Node: w.Run}},
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
	if err == nil || !strings.Contains(err.Error(), "the disk does not give back") {
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
	s, err := readSidecar(node.OS("/"), SidecarOf(file))
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
