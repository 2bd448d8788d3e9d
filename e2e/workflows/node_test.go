package workflows

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
	"github.com/etcdpod/etcdpod/e2e/schema"
)

// limit only ends what hangs: a test that is given little of its machine is let take its time.
const limit = 30 * time.Minute

// node is a sandbox in the hands of one test.
type node struct {
	*sandbox.Sandbox
	t   *testing.T
	ctx context.Context

	unreadable []string // host paths that are left out of checksums
}

// start makes a node with a control plane that serves some objects.
func start(t *testing.T, o sandbox.Options) *node {
	t.Helper()
	t.Parallel()
	n := create(t, o)
	must(t, n.Start(n.ctx))
	must(t, n.Load(n.ctx, 60, 300))
	return n
}

// create makes a node on which nothing runs yet.
func create(t *testing.T, o sandbox.Options) *node {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	if o.EtcdBinary == "" {
		o.EtcdBinary = etcdBinary(t, binaries.Etcd36)
	}
	s, err := sandbox.New(o)
	must(t, err)
	t.Cleanup(func() { must(t, s.Destroy()) })
	return &node{Sandbox: s, t: t, ctx: ctx}
}

func etcdBinary(t *testing.T, version string) string {
	t.Helper()
	path, err := binaries.Etcd(context.Background(), version)
	must(t, err)
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs etcdpod to its end. What it writes in JSON is as the schemas have it.
func (n *node) run(args ...string) sandbox.Result {
	n.t.Helper()
	result, err := n.Etcdpod(n.ctx, args...)
	must(n.t, err)
	must(n.t, schema.Check(args, result.Stdout, result.Stderr, result.Code))
	return result
}

// want runs etcdpod and holds it to an exit code, and what it writes to the texts.
func (n *node) want(code int, args []string, texts ...string) sandbox.Result {
	n.t.Helper()
	result := n.run(args...)
	wantResult(n.t, result, code, args, texts...)
	return result
}

func wantResult(t *testing.T, result sandbox.Result, code int, args []string, texts ...string) {
	t.Helper()
	all := result.Stdout + result.Stderr
	if result.Code != code {
		t.Fatalf("%q ended with %d, not %d:\n%s", args, result.Code, code, all)
	}
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("%q (exit code %d) does not say %q:\n%s", args, code, text, all)
		}
	}
	if strings.Contains(all, "goroutine ") || strings.Contains(all, "USAGE") {
		t.Errorf("%q shows a stack trace or how it is used:\n%s", args, all)
	}
}

// done runs etcdpod, which must succeed.
func (n *node) done(args ...string) sandbox.Result {
	n.t.Helper()
	return n.want(0, args)
}

// backup is what `backup -o json` says that it made.
type backup struct {
	Path     string `json:"path"` // host path
	Revision int64  `json:"revision"`
	Keys     int64  `json:"keys"`

	file string            // on this machine
	keys map[string]string // what it must hold
}

// backup takes one into the usual place.
func (n *node) backup() backup {
	n.t.Helper()
	keys := n.keys()
	var last struct{ Result backup }
	n.lastLine(n.done("backup", "-o", "json"), &last)
	b := last.Result
	if b.Path == "" || b.Revision == 0 {
		n.t.Fatalf("the backup is %+v", b)
	}
	b.file, b.keys = n.Path(b.Path), keys
	return b
}

// lastLine reads the last line of JSON, which follows the events.
func (n *node) lastLine(r sandbox.Result, value any) {
	n.t.Helper()
	lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
	must(n.t, json.Unmarshal([]byte(lines[len(lines)-1]), value))
}

func decode(t *testing.T, text string, value any) {
	t.Helper()
	must(t, json.Unmarshal([]byte(text), value))
}

// keys are all that etcd holds, but for leases.
func (n *node) keys() map[string]string {
	n.t.Helper()
	keys, err := n.AllKeys(n.ctx)
	must(n.t, err)
	return keys
}

// etcd runs something with a client of the node's etcd.
func (n *node) etcd(do func(*clientv3.Client) error) {
	n.t.Helper()
	c, err := n.EtcdClient()
	must(n.t, err)
	defer c.Close()
	must(n.t, do(c))
}

// put writes one key.
func (n *node) put(key, value string) {
	n.t.Helper()
	n.etcd(func(c *clientv3.Client) error {
		_, err := c.Put(n.ctx, key, value)
		return err
	})
}

// change makes the data differ from any backup: some objects are new, some are gone, some are
// others. Each call makes other data.
func (n *node) change() {
	n.t.Helper()
	stamp := time.Now().Format(time.RFC3339Nano)
	n.etcd(func(c *clientv3.Client) error {
		config := func(name, value string) clientv3.Op {
			return clientv3.OpPut("/registry/configmaps/late/"+name, fmt.Sprintf(`{"apiVersion":"v1",`+
				`"kind":"ConfigMap","metadata":{"name":%q,"namespace":"late"},"data":{"stamp":%q}}`, name, value))
		}
		_, err := c.Txn(n.ctx).Then(
			config("since-the-backup", stamp),
			config("at-"+strings.NewReplacer(":", "-", ".", "-").Replace(strings.ToLower(stamp)), stamp),
			clientv3.OpDelete("/registry/secrets/", clientv3.WithPrefix()),
			clientv3.OpPut("/registry/configmaps/team-00/app-00000-10", `{"apiVersion":"v1","kind":"ConfigMap",`+
				`"metadata":{"name":"app-00000-10","namespace":"team-00"},"data":{"stamp":"`+stamp+`"}}`),
		).Commit()
		return err
	})
}

// header is etcd's account of itself.
func (n *node) header() (cluster uint64, revision int64) {
	n.t.Helper()
	n.etcd(func(c *clientv3.Client) error {
		got, err := c.Get(n.ctx, "/")
		if err == nil {
			cluster, revision = got.Header.ClusterId, got.Header.Revision
		}
		return err
	})
	return cluster, revision
}

// manifests are the files that the kubelet sees or could see: name to mode and content.
func (n *node) manifests() map[string]string {
	n.t.Helper()
	files := map[string]string{}
	dir := n.Path(sandbox.ManifestDir)
	entries, err := os.ReadDir(dir)
	must(n.t, err)
	for _, e := range entries {
		info, err := e.Info()
		must(n.t, err)
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(n.t, err)
		files[e.Name()] = fmt.Sprintf("%v\n%s", info.Mode(), data)
	}
	return files
}

// runSummary is one entry of `runs -o json`.
type runSummary struct {
	ID, Workflow, State, Phase, Operation, Path, Reason string
	Committed, Aborted                                  bool
	Began                                               time.Time
}

// runs lists them.
func (n *node) runs() []runSummary {
	n.t.Helper()
	var runs []runSummary
	must(n.t, json.Unmarshal([]byte(n.done("runs", "-o", "json").Stdout), &runs))
	return runs
}

// lastRun is the one that began last.
func (n *node) lastRun() runSummary {
	n.t.Helper()
	runs := n.runs()
	if len(runs) == 0 {
		n.t.Fatal("no run is listed")
	}
	return slices.MaxFunc(runs, func(a, b runSummary) int { return a.Began.Compare(b.Began) })
}

// running are the names of the containers that run, with their ids.
func (n *node) running() []string {
	n.t.Helper()
	all, err := n.Containers(n.ctx)
	must(n.t, err)
	var names []string
	for _, c := range all {
		if c.State == "running" {
			names = append(names, c.Name+" "+c.ID)
		}
	}
	slices.Sort(names)
	return names
}

// kubeletRuns is what the kubelet's own status command says.
func (n *node) kubeletRuns() bool {
	n.t.Helper()
	return shell(n.ctx, n.KubeletStatusCommand()) == nil
}

// ready waits for the control plane.
func (n *node) ready() {
	n.t.Helper()
	must(n.t, n.WaitReady(n.ctx))
}

// eventually waits until the condition holds.
func (n *node) eventually(what string, holds func() bool) {
	n.t.Helper()
	for !holds() {
		select {
		case <-n.ctx.Done():
			n.t.Fatalf("never: %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
