package workflows

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/damage"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// verdict is what `verify -o json` says.
type verdict struct {
	OK            bool
	Check, Reason string
	Keys          int64
}

func (n *node) verify(code int, file string, args ...string) verdict {
	n.t.Helper()
	result := n.want(code, append([]string{"verify", file, "-o", "json"}, args...))
	var v verdict
	if err := json.Unmarshal([]byte(result.Stdout), &v); err != nil {
		n.t.Fatalf("verify says %q and %q: %v", result.Stdout, result.Stderr, err)
	}
	if v.OK != (code == 0) || !v.OK && (v.Check == "" || v.Reason == "") {
		n.t.Errorf("exit code %d, and the verdict %+v", code, v)
	}
	return v
}

// TestNoDamageIsTakenForGood shows each kind of damage to `verify`, and one kind a check to
// `restore`, which must touch nothing.
func TestNoDamageIsTakenForGood(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	must(t, n.Load(n.ctx, 600, 200))
	// A revision of one key, as some of the damage needs.
	n.put("/registry/configmaps/late/alone", "{}")
	b := n.backup()
	if v := n.verify(0, b.file); v.Keys != b.Keys || v.Keys < 600 {
		t.Errorf("the good backup holds %d keys by verify and %d by its description", v.Keys, b.Keys)
	}
	n.verify(0, b.file, "--quick")
	good, err := os.ReadFile(b.file)
	must(t, err)
	dir := n.Path("/srv/damaged")
	must(t, os.MkdirAll(dir, 0o755))
	restored := map[string]bool{}
	for _, c := range damage.Cases() {
		bad := c.Make(good)
		file := filepath.Join(dir, strings.ReplaceAll(c.Name, "/", "-")+".db")
		must(t, os.WriteFile(file, bad, 0o600))
		if v := n.verify(4, file); v.Check != c.Check {
			t.Errorf("%s: the check that fails is %q (%s), not %q", c.Name, v.Check, v.Reason, c.Check)
		}
		if !restored[c.Check] {
			restored[c.Check] = true
			n.untouched(func() { n.want(4, []string{"restore", file, "--yes"}, "the snapshot is bad", c.Check) })
		}
		if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, bad) {
			t.Errorf("%s: the file was changed: %v", c.Name, err)
		}
		must(t, os.Remove(file))
	}
	if len(restored) < 5 {
		t.Errorf("the checks that failed are only %v", restored)
	}
}

func TestWhatIsNoRegularFileIsNoSnapshot(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	must(t, os.MkdirAll(n.Path("/srv/directory"), 0o755))
	must(t, syscall.Mkfifo(n.Path("/srv/fifo"), 0o600))
	must(t, os.Symlink("loop", n.Path("/srv/loop")))
	must(t, os.WriteFile(n.Path("/srv/text"), []byte("no snapshot at all\n"), 0o600))
	files := []string{"/srv/directory", "/srv/fifo", "/srv/loop", "/srv/text", "/srv/absent", "/srv/text/below-a-file"}
	if os.Getuid() != 0 { // root may read it
		must(t, os.WriteFile(n.Path("/srv/forbidden"), []byte("secret"), 0))
		files = append(files, "/srv/forbidden")
	}
	for _, file := range files {
		n.verify(4, n.Path(file))
		n.untouchedBut(files, func() { n.want(4, []string{"restore", n.Path(file), "--yes"}) })
	}
}

// What etcd writes to is no copy: a restore of it would be of two moments, and without what is in
// the log alone.
func TestTheDbOfAnEtcdThatRunsIsNotRestored(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	db := n.Path(sandbox.DataDir + "/member/snap/db")
	const runs = "an etcd runs on that file, and writes to it: `etcdpod backup` takes a snapshot"
	n.untouched(func() {
		n.want(4, []string{"verify", db}, runs)
		n.want(4, []string{"restore", db, "--yes"}, runs)
		n.want(5, []string{"restore", db, "--yes", "--skip-hash-check"}, "an etcd is running on", "`etcdpod backup`")
	})
}
