package workflows

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// spoil changes one value in the data of a stopped etcd, which then starts all the same: its check
// at the start is taken out of the manifest.
func (n *node) spoil(value string) {
	n.t.Helper()
	manifest := n.Path(sandbox.ManifestDir + "/etcd.yaml")
	text, err := os.ReadFile(manifest)
	must(n.t, err)
	const check = "InitialCorruptCheck=true"
	if !bytes.Contains(text, []byte(check)) {
		n.t.Fatalf("the manifest has no %s:\n%s", check, text)
	}
	must(n.t, os.WriteFile(manifest, bytes.Replace(text, []byte(check), []byte("InitialCorruptCheck=false"), 1), 0o600))
	db, err := bbolt.Open(n.DataPath()+"/member/snap/db", 0o600, &bbolt.Options{Timeout: time.Second})
	must(n.t, err)
	found := false
	must(n.t, db.Update(func(tx *bbolt.Tx) error {
		keys := tx.Bucket([]byte("key"))
		c := keys.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if bytes.Contains(v, []byte(value)) {
				found = true
				return keys.Put(bytes.Clone(k), bytes.Replace(v, []byte(value), bytes.ToUpper([]byte(value)), 1))
			}
		}
		return nil
	}))
	must(n.t, db.Close())
	if !found {
		n.t.Fatalf("%q is not in the data", value)
	}
}

func TestABackupNamesAMemberThatDoesNotHoldWhatTheOthersDo(t *testing.T) {
	c := startTogether(t)
	c.nodes[0].put("/registry/configmaps/default/told-apart", "as it was written")
	c.typed("cp1", "etcdpod backup", 0, "verified")
	third := c.nodes[2]
	stopEtcd(third)
	third.spoil("as it was written")
	must(t, third.StartKubelet(third.ctx))
	third.ready()
	told := func(n *node) (path string, differ []string) {
		var last struct {
			Result struct {
				Path   string
				Differ []string
			}
		}
		out := c.typed(n.Node, "etcdpod backup -o json", 6)
		n.lastLine(sandbox.Result{Stdout: out}, &last)
		return n.Path(last.Result.Path), last.Result.Differ
	}
	for _, n := range []*node{c.nodes[0], third} {
		path, differ := told(n)
		if len(differ) != 1 || differ[0] != "cp3" {
			t.Errorf("on %s the members that differ are %v", n.Node, differ)
		}
		text, err := os.ReadFile(path + ".json")
		if err != nil || !bytes.Contains(text, []byte(`"differ"`)) {
			t.Errorf("%v: the description is %s", err, text)
		}
		n.verify(0, path)
	}
	// status compares as of what an API server has compacted, which costs nothing.
	first := c.nodes[0]
	first.etcd(func(c *clientv3.Client) error {
		r, err := c.Get(first.ctx, "/registry/configmaps/default/told-apart")
		if err != nil {
			return err
		}
		at := r.Header.Revision
		if _, err := c.Put(first.ctx, "compact_rev_key", strconv.FormatInt(at, 10)); err != nil {
			return err
		}
		_, err = c.Compact(first.ctx, at, clientv3.WithCompactPhysical())
		return err
	})
	first.eventually("status names it", func() bool {
		return strings.Contains(first.run("status").Stdout, "do not hold the same data: cp3 differ from the others")
	})
	// One that does not answer is not compared, and does not count as equal to who asks.
	stopEtcd(c.nodes[1])
	if _, differ := told(third); !slices.Equal(differ, []string{"cp1", "cp3"}) {
		t.Errorf("while cp2 is down the members that differ are %v", differ)
	}
}
