package workflows

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// TestWhatOthersPlantInADirectoryOfBackupsDoesNothing is an attack on root by whoever may write to
// the directory: to have a file of root's overwritten or removed.
func TestWhatOthersPlantInADirectoryOfBackupsDoesNothing(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	dir, victims := n.Path("/srv/shared"), n.Path("/srv/docker")
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.MkdirAll(victims, 0o755))
	daemon := filepath.Join(victims, "daemon.json")
	must(t, os.WriteFile(daemon, []byte("{}"), 0o600))
	planted, err := json.Marshal(map[string]string{"path": "/srv/docker/daemon"})
	must(t, err)
	must(t, os.WriteFile(dir+"/.etcdpod-x.lock", nil, 0o600))
	must(t, os.WriteFile(dir+"/.etcdpod-x.json", planted, 0o600))

	must(t, os.Chmod(dir, 0o777))
	n.untouched(func() {
		n.want(5, []string{"backup", "--dir", "/srv/shared"}, "others could replace it", "--shared-dir")
		n.want(5, []string{"backup", dir + "/mine.db"}, "others could replace it")
	})
	for mode, args := range map[os.FileMode][]string{
		0o777 | os.ModeSticky: {"backup", "--dir", "/srv/shared"},
		0o777:                 {"backup", "--dir", "/srv/shared", "--shared-dir"},
	} {
		must(t, os.Chmod(dir, mode))
		n.done(args...)
	}
	if data, err := os.ReadFile(daemon); err != nil || string(data) != "{}" {
		t.Errorf("the file that was to be removed: %q, %v", data, err)
	}
	hidden := 0
	for _, name := range n.files("/srv/shared") {
		if strings.HasPrefix(name, ".") {
			hidden++
		}
	}
	if hidden != 2 {
		t.Errorf("in the directory there are %v", n.files("/srv/shared"))
	}
}

func TestABackupThroughALinkIsJudgedByWhereItLeads(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	must(t, os.MkdirAll(n.Path("/srv"), 0o755))
	for link, to := range map[string]string{"/srv/m": sandbox.ManifestDir, "/srv/d": sandbox.DataDir} {
		must(t, os.Symlink(to, n.Path(link)))
	}
	n.untouched(func() {
		n.want(5, []string{"backup", "--dir", "/srv/m"}, "the kubelet runs every file there")
		n.want(5, []string{"backup", "--dir", "/srv/m/new"}, "the kubelet runs every file there")
		n.want(5, []string{"backup", n.Path("/srv/m/x.db")}, "the kubelet runs every file there")
		n.want(5, []string{"backup", "--dir", "/srv/d"}, "lost along with the data")
	})
	result := n.done("backup")
	if !strings.Contains(result.Stderr, "on the same file system as etcd's data") {
		t.Errorf("it is not said that the backup is lost with etcd's disk: %s", result.Stderr)
	}
}

// A description that somebody forged must not bring the cluster to the end of what etcd can count.
func TestAForgedRevisionDoesNotCount(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.change()
	forged := func(revision string) {
		must(t, os.WriteFile(filepath.Join(filepath.Dir(b.file), "forged.db.json"),
			[]byte(`{"revision":`+revision+`,"clusterID":"1"}`), 0o600))
	}
	forged("9223372036854775797")
	n.want(5, []string{"restore", b.file, "--yes", "--bump-revision", "1"}, "clients would see revisions go backwards")
	before := n.state()
	n.done("restore", b.file, "--yes")
	n.wantNew(b, before)
	status := n.want(0, []string{"status", "-o", "json"})
	var st struct{ Member struct{ Revision int64 } }
	must(t, json.Unmarshal([]byte(status.Stdout), &st))
	if r := st.Member.Revision; r < 1_000_000_000 || r > 2_000_000_000 {
		t.Errorf("etcd is at revision %d", r)
	}
	// As bad in restore as in verify.
	taken := n.backup()
	data, err := os.ReadFile(taken.file + ".json")
	must(t, err)
	must(t, os.WriteFile(b.file+".json", data, 0o600))
	n.verify(4, b.file)
	n.untouched(func() { n.want(4, []string{"restore", b.file, "--yes"}, "it is another snapshot", "move") })
}
