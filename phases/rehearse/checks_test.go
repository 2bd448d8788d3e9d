package rehearse

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// planned is a rehearsal of what a file holds, on a machine whose root is a directory.
func planned(root string, file snapfile.Report) *rehearsal {
	return &rehearsal{Options: Options{Memory: DefaultMemory}, look: &observe.Node{View: node.View{FS: node.OS(root)}},
		facts: &observe.Facts{}, source: &source{report: &file}, Report: &Report{}}
}

func isRefused(t *testing.T, err error, says, hint string) {
	t.Helper()
	var refused *engine.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), says) || !strings.Contains(engine.Hint(err), hint) {
		t.Errorf("%v (%s)", err, engine.Hint(err))
	}
}

func TestTooLittleRoomIsRefused(t *testing.T) {
	root := t.TempDir()
	if err := planned(root, snapfile.Report{SizeBytes: 1 << 20}).checkRoom("/"); err != nil {
		t.Skipf("there is no room for a test, either: %v", err)
	}
	isRefused(t, planned(root, snapfile.Report{SizeBytes: 1 << 60}).checkRoom("/"), "not enough space", "--scratch")
	// On the disk of this node's etcd it leaves some for that.
	free, err := node.OS(root).Free("/")
	if err != nil {
		t.Fatal(err)
	}
	most := planned(root, snapfile.Report{SizeBytes: int64(free) - logRoom - etcdRoom/2})
	if err := most.checkRoom("/"); err != nil {
		t.Error(err)
	}
	most.facts.Etcd = &observe.EtcdPod{DataDir: "/data"}
	isRefused(t, most.checkRoom("/"), "not enough space", "another machine")
}

func TestTooLittleMemoryIsRefused(t *testing.T) {
	r := planned("/", snapfile.Report{Keys: 100, Revisions: 100})
	if err := r.checkMemory(); err != nil && r.needsMemory() < 200<<20 {
		t.Skipf("there is none for a test, either: %v", err)
	}
	r.source.report.Keys = 10_000_000
	isRefused(t, r.checkMemory(), "may have 1.0 GiB", "--memory ")
	r.Memory = 1 << 60
	r.source.report.Keys = 1 << 40
	isRefused(t, r.checkMemory(), "is free here", "another machine")
}

func TestAPlaceThatWouldDoHarmIsRefused(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"data/member", "manifests", "free"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("data/member", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	r := planned(root, snapfile.Report{})
	r.facts.Etcd, r.facts.ManifestDir = &observe.EtcdPod{DataDir: "/data"}, "/manifests"
	r.facts.Manifests = []observe.ManifestFile{{}}
	for dir, says := range map[string]string{"/data": "etcd's own data", "/link": "etcd's own data",
		"/manifests": "the kubelet runs", "/nowhere": "not a directory"} {
		isRefused(t, r.checkPlace(dir), says, "--scratch")
	}
	if err := r.checkPlace("/free"); err != nil {
		t.Error(err)
	}
	// On a whole machine, others must not be able to replace the data.
	open := filepath.Join(root, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	isRefused(t, planned("/", snapfile.Report{}).checkPlace(open), "others could replace", "--scratch")
}

func TestAnOlderEtcdIsRefusedOrReplaced(t *testing.T) {
	for name, c := range map[string]struct {
		data, etcd, from string
		refused          bool
		now              string
	}{
		"the same":                     {"3.6.0", "3.6.16", "file", false, "file"},
		"a newer one":                  {"3.5.0", "3.6.16", "node", false, "node"},
		"an older one that was given":  {"3.7.0", "3.6.16", "file", true, "file"},
		"an older one of this node":    {"3.7.0", "3.6.16", "node", false, "built-in"},
		"newer data than any etcd":     {"3.99.0", "3.6.16", "node", true, "built-in"},
		"nothing tells of which it is": {"", "3.6.16", "node", false, "node"},
		"a program that does not tell": {"3.7.0", "", "file", false, "file"},
	} {
		r := planned("/", snapfile.Report{StorageVersion: c.data})
		p := &program{Etcd: Etcd{Version: c.etcd, From: c.from}}
		if err := r.checkRelease(p); (err != nil) != c.refused || p.From != c.now {
			t.Errorf("%s: %v, %s", name, err, p.From)
		}
	}
}
