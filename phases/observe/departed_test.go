package observe

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// A node that was set up again has a member: what a run removed before explains nothing there.
func TestAnEtcdThatHasRunSinceLeavesTheTimeOnItsFiles(t *testing.T) {
	then := time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		touched, wal string
		since        bool
	}{
		"nothing":                {"", "", false},
		"the db":                 {"/d/member/snap/db", "", true},
		"the log":                {"/d/member/wal/0.wal", "", true},
		"a log that is no more":  {"/d/member/wal/0.wal", "/wal", false},
		"the log, which is else": {"/wal/0.wal", "/wal", true},
	} {
		disk := node.OS(t.TempDir())
		for _, file := range []string{"/d/member/snap/db", "/d/member/wal/0.wal", "/wal/0.wal"} {
			real, at := disk.Real(file), then.Add(-time.Minute)
			if file == c.touched {
				at = then.Add(time.Minute)
			}
			if err := os.MkdirAll(filepath.Dir(real), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(real, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(real, at, at); err != nil {
				t.Fatal(err)
			}
		}
		n := &Node{View: node.View{FS: disk}}
		if got := n.writtenSince(then, "/d", c.wal); got != c.since {
			t.Errorf("%s: %t", name, got)
		}
	}
}
