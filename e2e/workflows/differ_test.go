package workflows

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

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
		for c, k, v := first(keys); k != nil; k, v = c.Next() {
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

func first(b *bbolt.Bucket) (c *bbolt.Cursor, k, v []byte) {
	c = b.Cursor()
	k, v = c.First()
	return c, k, v
}

func TestABackupNamesAMemberThatDoesNotHoldWhatTheOthersDo(t *testing.T) {
	c := startTogether(t)
	c.nodes[0].put("/registry/configmaps/default/told-apart", "as it was written")
	c.typed("cp1", "etcdpod backup", 0, "proven good")
	third := c.nodes[2]
	stopEtcd(third)
	third.spoil("as it was written")
	must(t, third.StartKubelet(third.ctx))
	third.ready()
	for on, own := range map[string]bool{"cp1": false, "cp3": true} {
		out := c.typed(on, "etcdpod backup -o json", 6)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		var last struct {
			Result struct {
				Path   string
				Differ []string
			}
		}
		must(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last))
		if d := last.Result.Differ; len(d) != 1 || d[0] != "cp3" {
			t.Errorf("on %s (itself %v) the members that differ are %v", on, own, d)
		}
		n := c.nodes[map[string]int{"cp1": 0, "cp3": 2}[on]]
		text, err := os.ReadFile(n.Path(last.Result.Path) + ".json")
		if err != nil || !bytes.Contains(text, []byte(`"differ"`)) {
			t.Errorf("%v: the description is %s", err, text)
		}
		n.verify(0, n.Path(last.Result.Path))
	}
}
