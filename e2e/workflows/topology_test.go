package workflows

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// topologies are nodes in all the states in which a restore must work. Each gets a backup, then
// changes, then what upset does to it.
var topologies = []struct {
	name    string
	options sandbox.Options
	upset   func(*node)
}{
	{"the data directory is a symbolic link", sandbox.Options{DataLink: "/srv/disk/etcd"}, nothing},
	{"the WAL is in a directory of its own", sandbox.Options{WALDir: "/var/lib/etcd-wal"}, nothing},
	{"there is no API server", sandbox.Options{NoAPIServer: true}, nothing},
	{"etcd speaks plain http", sandbox.Options{PlainHTTP: true}, nothing},
	{"the kubelet is stopped, and its containers run on", sandbox.Options{}, func(n *node) {
		must(n.t, n.StopKubelet(n.ctx))
	}},
	{"the kubelet is stopped and etcd is dead", sandbox.Options{}, stopEtcd},
	{"the data directory is gone", sandbox.Options{}, func(n *node) {
		stopEtcd(n)
		must(n.t, os.RemoveAll(n.DataPath()))
	}},
	{"the data directory is there and empty", sandbox.Options{}, func(n *node) {
		stopEtcd(n)
		must(n.t, os.RemoveAll(n.DataPath()+"/member"))
	}},
	{"the WAL of its own is gone", sandbox.Options{WALDir: "/var/lib/etcd-wal"}, func(n *node) {
		stopEtcd(n)
		must(n.t, os.RemoveAll(n.Path("/var/lib/etcd-wal")))
		must(n.t, os.Mkdir(n.Path("/var/lib/etcd-wal"), 0o700))
	}},
	{"etcd crashes on a damaged database", sandbox.Options{}, func(n *node) {
		stopEtcd(n)
		must(n.t, os.WriteFile(n.DataPath()+"/member/snap/db", make([]byte, 1<<20), 0o600))
		must(n.t, n.StartKubelet(n.ctx))
		n.eventually("etcd has ended again", func() bool {
			c, found, err := n.Container(n.ctx, "etcd")
			must(n.t, err)
			return found && c.State == "exited" && c.Attempt > 1
		})
	}},
	{"the API server is dead and waits for its back-off", sandbox.Options{Backoff: time.Hour, MaxBackoff: time.Hour},
		func(n *node) {
			down, running := false, 0
			look := func() {
				c, found, err := n.Container(n.ctx, "kube-apiserver")
				must(n.t, err)
				down = !found || c.State == "exited"
				if !down {
					running = c.Attempt
				}
			}
			for attempt := range 2 { // the first time the kubelet starts it again at once
				n.eventually("the API server runs", func() bool { look(); return !down && running == attempt })
				must(n.t, n.Kill(n.ctx, "kube-apiserver"))
			}
			n.eventually("the API server is down", func() bool { look(); return down })
		}},
}

func nothing(*node) {}

// stopEtcd ends the kubelet, then etcd, by SIGKILL.
func stopEtcd(n *node) {
	n.t.Helper()
	must(n.t, n.StopKubelet(n.ctx))
	must(n.t, n.Kill(n.ctx, "etcd"))
	n.eventually("etcd has ended", func() bool {
		c, found, err := n.Container(n.ctx, "etcd")
		must(n.t, err)
		return found && c.State == "exited"
	})
}

func TestANodeInAnyStateIsRestored(t *testing.T) {
	for _, topology := range topologies {
		t.Run(topology.name, func(t *testing.T) {
			n := start(t, topology.options)
			b := n.backup()
			n.change()
			before := n.state()
			topology.upset(n)
			n.done("restore", b.file, "--yes")
			n.wantNew(b, before)
			if link := topology.options.DataLink; link != "" {
				if target, err := os.Readlink(n.Path(sandbox.DataDir)); err != nil || target != link {
					t.Errorf("the link to the data is %q now: %v", target, err)
				}
			}
		})
	}
}

func TestAKilledRestoreWithAWALOfItsOwnEndsWhollyNewOrWhollyOld(t *testing.T) {
	for verb, settle := range map[string]func(*node, backup, state){"resumed": resume, "rolled back": rollBack} {
		t.Run(verb, func(t *testing.T) {
			n := start(t, sandbox.Options{WALDir: "/var/lib/etcd-wal", NoAPIServer: true})
			b := n.backup()
			n.change()
			plan := n.operations("restore", b.file)
			for i, words := range plan {
				if !strings.HasPrefix(words, "exchange ") {
					continue
				}
				for _, at := range []moment{
					{operation: i + 1, state: "started"}, {operation: i + 1, state: "finished"},
				} {
					n.killAndSettle(at, plan, b, settle)
				}
			}
		})
	}
}

func TestANewDataDirectoryTakesThePlaceOfTheOldOneWhichIsKept(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.change()
	before := n.state()
	const fresh = "/var/lib/etcd-new"
	n.done("restore", b.file, "--yes", "--data-dir", fresh)
	n.ready()
	now := n.state()
	if diff := sandbox.Diff(b.keys, now.keys); !slices.Equal(diff,
		[]string{"changed /registry/configmaps/kube-system/kubeadm-config"}) {
		t.Errorf("restored with a new data directory, the data differs in %v", diff)
	}
	if now.cluster == before.cluster || now.revision <= before.revision {
		t.Errorf("cluster %x, revision %d; before %x, %d", now.cluster, now.revision, before.cluster, before.revision)
	}

	// The manifest's hostPath is another, and nothing else of it.
	before.manifests["etcd.yaml"] = strings.Replace(before.manifests["etcd.yaml"],
		"path: /var/lib/etcd\n", "path: "+fresh+"\n", 1)
	n.wantManifests(before.manifests)
	n.wantAllRunning()

	var config struct{ Data map[string]string }
	api, err := n.API()
	must(t, err)
	must(t, api.Do(n.ctx, http.MethodGet, "/api/v1/namespaces/kube-system/configmaps/kubeadm-config", nil, &config))
	want := strings.Replace(b.clusterConfiguration(t), "dataDir: /var/lib/etcd\n", "dataDir: "+fresh+"\n", 1)
	if got := config.Data["ClusterConfiguration"]; got != want {
		t.Errorf("kubeadm's configuration is\n%s\nand should be\n%s", got, want)
	}

	// The old data is where it was, and can be gone back to.
	n.done("restore", "--from-data-dir", sandbox.DataDir, "--yes")
	n.ready()
	if diff := sandbox.Diff(before.keys, n.keys()); len(diff) > 0 {
		t.Errorf("back on the old data, it differs in %v", diff)
	}
}

// clusterConfiguration is kubeadm's, as the backup holds it.
func (b backup) clusterConfiguration(t *testing.T) string {
	t.Helper()
	object := b.keys["/registry/configmaps/kube-system/kubeadm-config"]
	var config struct{ Data map[string]string }
	decode(t, object, &config)
	return config.Data["ClusterConfiguration"]
}

func TestARawCopyOfTheDatabaseIsRestoredOnlyWhenAskedFor(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	keys := n.keys()
	// Before it sends a snapshot, etcd writes all that it has to its database.
	n.etcd(func(c *clientv3.Client) error {
		snapshot, err := c.Snapshot(n.ctx)
		if err == nil {
			_, err = io.Copy(io.Discard, snapshot)
		}
		return err
	})
	stopEtcd(n)
	db, err := os.ReadFile(n.DataPath() + "/member/snap/db")
	must(t, err)
	must(t, n.StartKubelet(n.ctx))
	n.ready()
	n.change()
	raw := n.Path("/srv-raw.db")
	must(t, os.WriteFile(raw, db, 0o600))
	n.untouched(func() { n.want(4, []string{"restore", raw, "--yes"}, "length", "SHA-256") })
	// Its structure is checked all the same.
	torn := n.Path("/srv-torn.db")
	must(t, os.WriteFile(torn, db[:12288], 0o600))
	n.untouched(func() { n.want(4, []string{"restore", torn, "--yes", "--skip-hash-check"}) })
	before := n.state()
	n.done("restore", raw, "--yes", "--skip-hash-check")
	n.wantNew(backup{keys: keys}, before)
}

func TestAllThatAKilledEtcdHadAcknowledgedIsRestoredFromItsDataDirectory(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	n.change()
	n.put("/registry/configmaps/late/the-very-last",
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"the-very-last","namespace":"late"}}`)
	keys := n.keys()
	stopEtcd(n)
	must(t, exec.CommandContext(n.ctx, "cp", "-a", n.DataPath(), n.Path("/srv-dead")).Run())
	must(t, n.StartKubelet(n.ctx))
	n.ready()
	n.change()
	before := n.state()
	n.untouched(func() {
		// It is the live one.
		n.want(5, []string{"restore", "--from-data-dir", sandbox.DataDir, "--yes"}, "in use")
	})
	n.done("restore", "--from-data-dir", "/srv-dead", "--yes")
	n.wantNew(backup{keys: keys}, before)
}

func TestRevisionsGoOnAboveWhatIsAskedFor(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	alone := n.Path("/alone/backup.db") // with nothing beside it that tells of revisions
	must(t, os.MkdirAll(filepath.Dir(alone), 0o755))
	must(t, os.Rename(b.file, alone))
	must(t, os.RemoveAll(filepath.Dir(b.file)))
	n.change()
	before := n.state()
	stopEtcd(n)
	must(t, os.RemoveAll(n.DataPath()))
	n.untouched(func() { n.want(5, []string{"restore", alone, "--yes"}, "--bump-revision") })
	const bump = 5_000_000_000
	n.done("restore", alone, "--yes", "--bump-revision", "5000000000")
	n.wantNew(b, before)
	if _, now := n.header(); now < b.Revision+bump {
		t.Errorf("revision %d, from %d with a bump of %d", now, b.Revision, int64(bump))
	}
}
