package workflows

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// backups are the files in a directory, hidden ones included.
func (n *node) files(dir string) []string {
	n.t.Helper()
	entries, err := os.ReadDir(n.Path(dir))
	must(n.t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestABackupKilledAnywhereIsWholeOrNotThere kills the real binary at each operation of a backup.
// The next backup cleans up.
func TestABackupKilledAnywhereIsWholeOrNotThere(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	must(t, n.Load(n.ctx, 1000, 1000))
	const dir = "/srv/killed"
	must(t, os.MkdirAll(n.Path(dir), 0o700))
	file := n.Path(dir + "/b.db")
	total := len(n.operations("backup", file))
	for operation := 1; operation <= total; operation++ {
		for _, state := range []string{"started", "finished"} {
			n.killAt(moment{operation: operation, state: state}, "backup", file)
			if _, err := os.Stat(file); err == nil {
				n.verify(0, file)
				must(t, os.Remove(file))
				if err := os.Remove(file + ".json"); err != nil && !os.IsNotExist(err) {
					t.Error(err)
				}
			}
			n.done("runs") // nothing is open, and nothing is to be resumed
			n.done("backup", file)
			n.verify(0, file)
			if names := n.files(dir); strings.Join(names, " ") != "b.db b.db.json" {
				t.Fatalf("after a kill when operation %d of a backup had %s, and another backup, there are %v",
					operation, state, names)
			}
			must(t, os.Remove(file))
			must(t, os.Remove(file+".json"))
		}
	}
}

func TestABackupThatFailsLeavesNothingOfItsName(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	must(t, n.Load(n.ctx, 1000, 2000))
	must(t, os.MkdirAll(n.Path("/srv"), 0o755))
	n.untouched(func() {
		args := []string{"backup", n.Path("/srv/full.db")}
		wantResult(t, n.limited("ulimit -f 2048", args...), 1, args, "file too large") // 1 MiB
	})
	taken := n.Path("/srv/taken.db")
	must(t, os.WriteFile(taken, []byte("precious"), 0o600))
	for _, c := range []struct{ file, says string }{
		{"/srv/taken.db", "never replaces"},
		{"/srv/absent/b.db", "does not exist"},
		{"/srv/taken.db/b.db", "not a directory"},
		{sandbox.ManifestDir + "/b.db", "the kubelet runs every file"},
		{sandbox.DataDir + "/b.db", "lost along with the data"},
	} {
		n.untouched(func() { n.want(5, []string{"backup", n.Path(c.file)}, c.says) })
	}
	must(t, n.StopKubelet(n.ctx))
	must(t, n.Kill(n.ctx, "etcd"))
	n.want(1, []string{"backup"}, "cannot take a backup", "--from-data-dir "+sandbox.DataDir)
}

func TestABackupOfAKilledEtcdHoldsAllThatItHadAcknowledged(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	n.change()
	keys := n.keys()
	stopEtcd(n)
	file, log, away := n.Path("/srv.db"), n.Path(sandbox.DataDir+"/member/wal"), n.Path("/srv-wal")
	must(t, os.Rename(log, away))
	n.untouched(func() {
		n.want(5, []string{"backup", file, "--from-data-dir", sandbox.DataDir},
			"is incomplete without its WAL", "--from-wal-dir")
		n.want(5, []string{"restore", "--yes", "--from-data-dir", sandbox.DataDir},
			"is incomplete without its WAL", "--from-wal-dir")
	})
	must(t, os.Rename(away, log))
	n.done("backup", file, "--from-data-dir", sandbox.DataDir)
	n.verify(0, file)
	must(t, n.StartKubelet(n.ctx))
	n.ready()
	n.change()
	before := n.state()
	n.want(5, []string{"backup", n.Path("/srv-live.db"), "--from-data-dir", sandbox.DataDir}, "in use")
	n.done("restore", file, "--yes")
	n.wantNew(backup{keys: keys}, before)
}

func TestAsManyBackupsAreKeptAsWereAskedFor(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	const dir = "/var/lib/etcdpod/backups"
	foreign := n.Path(dir + "/by-hand.db")
	first := n.backup()
	must(t, os.WriteFile(foreign, []byte("precious"), 0o600))
	for range 3 {
		n.change() // another revision, and so another name
		n.done("backup", "--keep", "2")
	}
	kept, err := filepath.Glob(n.Path(dir + "/etcd-*.db"))
	must(t, err)
	if len(kept) != 2 {
		t.Errorf("kept are %v", n.files(dir))
	}
	if _, err := os.Stat(first.file); !os.IsNotExist(err) {
		t.Errorf("the oldest is still there: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a file that is no backup of etcdpod's was deleted: %v", err)
	}
	n.want(0, []string{"backups"}, filepath.Base(kept[0]), filepath.Base(kept[1]))
}

// Somebody looks into another etcd, or an old disk, on this node. Both are at a higher revision.
func TestABackupOfAnotherEtcdIsNoneOfThisNodes(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	other := create(t, sandbox.Options{NoAPIServer: true})
	must(t, other.Start(other.ctx))
	must(t, other.Load(other.ctx, 900, 10))
	first := n.backup()
	pki := func(name string) string { return other.Path("/etc/kubernetes/pki/etcd/" + name) }
	n.want(0, []string{"backup", "--endpoints", other.ClientURL(), "--cacert", pki("ca.crt"),
		"--cert", pki("healthcheck-client.crt"), "--key", pki("healthcheck-client.key")},
		"nothing shows that the etcd at "+other.ClientURL()+" is of this node's cluster")
	stopEtcd(other)
	must(t, os.CopyFS(n.Path("/mnt/old"), os.DirFS(other.DataPath())))
	n.want(0, []string{"backup", "--from-data-dir", "/mnt/old"},
		"nothing shows that the data in /mnt/old is of this node's cluster")
	for range 2 {
		n.change()
		n.done("backup", "--keep", "1")
	}
	kept, err := filepath.Glob(n.Path("/var/lib/etcdpod/backups/*.db"))
	must(t, err)
	// Its own newest one, and the two others.
	if len(kept) != 3 || slices.Contains(kept, first.file) {
		t.Errorf("kept are %q", kept)
	}
	status := n.run("status")
	for _, wrong := range []string{"does not hold what was backed up", "no run of this node explains"} {
		if strings.Contains(status.Stdout+status.Stderr, wrong) {
			t.Errorf("status says:\n%s", status.Stdout)
		}
	}
}

// The kubelet starts etcd on an empty directory. What was backed up before is all that is left.
func TestAnEtcdThatWasEmptiedStaysRedAndKeepsItsBackups(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	const dir = "/var/lib/etcdpod/backups"
	for range 3 {
		n.change()
		n.done("backup")
	}
	good := n.backup()
	before := n.files(dir)
	empty := func() {
		t.Helper()
		stopEtcd(n)
		must(t, os.RemoveAll(n.DataPath()+"/member"))
		must(t, n.StartKubelet(n.ctx))
		must(t, n.WaitEtcd(n.ctx))
	}
	empty()
	const lost = "etcd does not hold what was backed up"
	n.want(6, []string{"status"}, lost, "etcdpod restore "+dir)
	for _, args := range [][]string{{"backup", "--keep", "1"}, {"backup", "--keep", "1", "--quiet"},
		{"backup", "--keep", "1", "--output", "json"}} {
		n.want(6, args, lost, "move the backups from before to another directory")
	}
	kept := n.files(dir)
	for _, name := range before {
		if !slices.Contains(kept, name) {
			t.Errorf("%s was deleted", name)
		}
	}
	n.want(6, []string{"status"}, lost)

	n.done("restore", "--yes", good.file)
	n.ready()
	if said := n.run("status").Stdout; strings.Contains(said, lost) {
		t.Errorf("after a restore status says %s", said)
	}
	n.done("backup", "--keep", "2")
	if kept, err := filepath.Glob(n.Path(dir + "/etcd-*.db")); err != nil || len(kept) != 2 {
		t.Errorf("kept are %v: %v", kept, err)
	}

	// A cluster that was begun anew on purpose.
	empty()
	n.want(6, []string{"backup"}, lost)
	must(t, os.Rename(n.Path(dir), n.Path("/srv-before")))
	n.done("backup")
	n.done("backup", "--keep", "1")
	n.want(0, []string{"status"})
}

func TestABackupKeptElsewhereCounts(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	missing := "there is no backup of this node in "
	n.want(6, []string{"status"}, missing+"/var/lib/etcdpod/backups")
	must(t, os.MkdirAll(n.Path("/mnt/nas"), 0o700))
	n.done("backup", "--dir", "/mnt/nas")
	if out := n.run("status").Stdout; strings.Contains(out, "no backup") || !strings.Contains(out, "/mnt/nas/etcd-") {
		t.Errorf("status does not find it: %s", out)
	}
	n.want(6, []string{"status", "--dir", "/var/lib/etcdpod/backups"}, "cannot list the backups")
	// One that was taken away on a stick does not make a healthy node one without backups.
	must(t, os.MkdirAll(n.Path("/mnt/stick"), 0o700))
	n.done("backup", n.Path("/mnt/stick/once.db"))
	n.want(0, []string{"status"}, "/mnt/stick/once.db")
	must(t, os.RemoveAll(n.Path("/mnt/stick")))
	n.want(0, []string{"status"}, "/mnt/nas/etcd-")
	must(t, os.RemoveAll(n.Path("/mnt/nas")))
	n.want(6, []string{"status"}, "/mnt/stick")
	n.want(2, []string{"status", "--max-backup-age", "often"}, "expected a duration like 26h or 7d, or none")
}
