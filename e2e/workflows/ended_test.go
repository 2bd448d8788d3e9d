package workflows

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// A disaster is what a person names with --from-data-dir: a hole in it is never called good, and
// what stands before it can be had.
func TestDataWithAHoleIsNeverCalledGood(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	n.change()
	stopEtcd(n)
	copyOf := func(dir string) string {
		must(t, os.MkdirAll(n.Path(filepath.Dir(dir)), 0o755))
		must(t, os.CopyFS(n.Path(dir), os.DirFS(n.Path(sandbox.DataDir))))
		return n.Path(dir)
	}
	hole, torn := copyOf("/srv/hole"), copyOf("/srv/torn")
	logs, err := filepath.Glob(hole + "/member/wal/*.wal")
	must(t, err)
	log := logs[len(logs)-1]
	data, err := os.ReadFile(log)
	must(t, err)
	// In the last record that there is, or the one before.
	data[len(bytes.TrimRight(data, "\x00"))-100] ^= 0x10
	must(t, os.WriteFile(log, data, 0o600))
	db := torn + "/member/snap/db"
	data, err = os.ReadFile(db)
	must(t, err)
	// All that is in use behind the meta pages.
	copy(data[4096*2:], bytes.Repeat([]byte{0xee}, 1<<20))
	must(t, os.WriteFile(db, data, 0o600))

	file := n.Path("/srv/made.db")
	n.untouched(func() {
		n.want(4, []string{"backup", file, "--from-data-dir", "/srv/hole"}, "is missing", "--up-to-hole")
		n.want(4, []string{"restore", "--dry-run", "--from-data-dir", "/srv/hole"}, "is missing", "--up-to-hole")
		n.want(4, []string{"backup", file, "--from-data-dir", "/srv/torn"}, "the db is bad")
		n.want(4, []string{"restore", "--yes", "--from-data-dir", "/srv/torn"}, "the db is bad")
		n.want(0, []string{"restore", "--dry-run", "--from-data-dir", "/srv/hole", "--up-to-hole"}, "later is lost")
	})
	n.want(0, []string{"backup", file, "--from-data-dir", "/srv/hole", "--up-to-hole"},
		"verified up to the gap in its data")
	n.verify(0, file)
	sidecar, err := os.ReadFile(file + ".json")
	must(t, err)
	if !strings.Contains(string(sidecar), "later is lost") {
		t.Errorf("the sidecar does not say what is lost: %s", sidecar)
	}
	// Where the log is lost or cannot be read, the way to what the db alone has is named.
	lost, unread := copyOf("/srv/lost"), copyOf("/srv/unread")
	must(t, os.RemoveAll(lost+"/member/wal"))
	logs, err = filepath.Glob(unread + "/member/wal/*.wal")
	must(t, err)
	for _, log := range logs {
		must(t, os.WriteFile(log, bytes.Repeat([]byte{0xee}, 4096), 0o600))
	}
	n.untouched(func() {
		for dir, code := range map[string]int{"/srv/lost": 5, "/srv/unread": 4} {
			way := "copy " + dir + "/member/snap/db elsewhere and run `etcdpod restore --skip-hash-check COPY`"
			n.want(code, []string{"backup", n.Path("/srv/lost.db"), "--from-data-dir", dir}, way)
			n.want(code, []string{"restore", "--yes", "--from-data-dir", dir}, way)
		}
		db := lost + "/member/snap/db"
		way := "`etcdpod restore --skip-hash-check " + db + "`"
		n.want(4, []string{"verify", db}, "no SHA-256 at its end", way)
		n.want(4, []string{"restore", "--yes", db}, "no SHA-256 at its end", way)
		n.want(0, []string{"restore", "--dry-run", "--skip-hash-check", db})
	})
	// A copy says so, on the screen and in the sidecar, wherever it is.
	kubeadms := "/etc/kubernetes/tmp/kubeadm-backup-etcd-2026-11-29-01-02-03"
	copyOf(kubeadms)
	copyOf("/srv/copy")
	must(t, os.Symlink(".."+kubeadms, n.Path("/srv/link")))
	for dir, says := range map[string]string{
		kubeadms: "kubeadm made this copy while etcd was running: ", "/srv/link": "kubeadm made this copy",
		"/srv/copy": "Nothing shows whether etcd was stopped when the data in /srv/copy was copied",
	} {
		file := n.Path("/srv/of-" + filepath.Base(dir) + ".db")
		n.want(0, []string{"backup", file, "--from-data-dir", dir}, says)
		n.want(0, []string{"restore", "--dry-run", "--from-data-dir", dir}, says)
		if sidecar, err = os.ReadFile(file + ".json"); err != nil || !strings.Contains(string(sidecar), says) {
			t.Errorf("%s: the sidecar does not say %q: %v %s", dir, says, err, sidecar)
		}
	}
	own := n.want(0, []string{"backup", n.Path("/srv/own.db"), "--from-data-dir", sandbox.DataDir})
	if strings.Contains(own.Stdout+own.Stderr, "copied") {
		t.Errorf("the node's own data counts as a copy: %s%s", own.Stdout, own.Stderr)
	}
}

func TestStatusSaysWhyEtcdEndsAgainAndAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(n *node)
		says  string
	}{
		"a flag that it does not know": {func(n *node) {
			n.editEtcd("    - etcd\n", "    - etcd\n    - --no-such-flag=1\n")
		}, "it does not know one of its flags (flag provided but not defined: -no-such-flag)"},
		"a certificate that is not there": {func(n *node) {
			n.editEtcd("pki/etcd/server.crt", "pki/etcd/absent.crt")
		}, "a certificate is rejected or missing"},
		"data that cannot be read": {func(n *node) {
			logs, err := filepath.Glob(n.Path(sandbox.DataDir) + "/member/wal/*.wal")
			must(t, err)
			data, err := os.ReadFile(logs[0])
			must(t, err)
			// Within a record's data, so that its length is right.
			at := bytes.Index(data, []byte("/registry/"))
			if at < 0 {
				t.Fatal("the log holds no key")
			}
			data[at] ^= 0xff
			must(t, os.WriteFile(logs[0], data, 0o600))
		}, "its data cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, sandbox.Options{NoAPIServer: true, Backoff: 100 * time.Millisecond})
			stopEtcd(n)
			tt.spoil(n)
			must(t, n.StartKubelet(n.ctx))
			var said string
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(said)
				}
			})
			n.eventually("status says why", func() bool {
				r := n.run("status")
				said = r.Stdout + r.Stderr
				return strings.Contains(said, tt.says)
			})
		})
	}
}

func (n *node) editEtcd(old, text string) {
	n.t.Helper()
	file := n.Path(sandbox.ManifestDir + "/etcd.yaml")
	data, err := os.ReadFile(file)
	must(n.t, err)
	if !strings.Contains(string(data), old) {
		n.t.Fatalf("etcd.yaml has no %q:\n%s", old, data)
	}
	must(n.t, os.WriteFile(file, []byte(strings.Replace(string(data), old, text, 1)), 0o600))
}

// A db that somebody has deleted is in the log: nobody is told to look for the data elsewhere, or
// to restore.
func TestAnEtcdWhoseDBIsGoneIsToBeStarted(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	n.change()
	keys := n.keys()
	stopEtcd(n)
	must(t, os.Remove(n.Path(sandbox.DataDir+"/member/snap/db")))
	n.untouched(func() {
		n.want(6, []string{"status", "--kubelet-status-command", "true"},
			"the db of etcd is missing from its data directory "+sandbox.DataDir+"; its log is there, and whole",
			"start etcd: it makes its db anew from its log, and nothing is lost")
		n.want(1, []string{"backup"}, sandbox.DataDir+" holds etcd's log, and no db: `etcdpod status` says")
		n.want(5, []string{"backup", "--from-data-dir", sandbox.DataDir}, "start an etcd on it")
		plan := n.want(0, []string{"restore", b.file, "--dry-run"}, "what etcd's log holds: its db is gone")
		if strings.Contains(plan.Stdout+plan.Stderr, "brings back the replaced data") {
			t.Errorf("a way back is promised:\n%s", plan.Stdout)
		}
	})
	must(t, n.StartKubelet(n.ctx))
	n.ready()
	if !maps.Equal(n.keys(), keys) {
		t.Error("something is lost")
	}
}

// What cannot be saved is not proposed to be saved.
func TestADirectoryWithoutDataIsNamedAsThat(t *testing.T) {
	n := create(t, sandbox.Options{NoAPIServer: true}) // with a manifest, and nothing that runs
	n.want(6, []string{"status", "--kubelet-status-command", "true"},
		"etcd's data directory "+sandbox.DataDir+" holds no data",
		"if it is lost, look for a backup that was kept elsewhere")
	n.want(1, []string{"backup"}, sandbox.DataDir+" holds no data, either: `etcdpod status` says what to do")
	n.want(5, []string{"backup", "--from-data-dir", sandbox.DataDir},
		sandbox.DataDir+": there is no etcd data there: member/snap/db: no such file or directory\n")
}
