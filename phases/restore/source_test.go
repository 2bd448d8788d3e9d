package restore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Who has a data directory, and no snapshot, learns how it is restored.
func TestADataDirectoryInPlaceOfASnapshotIsCalledThat(t *testing.T) {
	root := t.TempDir()
	disk := node.OS(root)
	for file, want := range map[string]string{"/data": "--from-data-dir /data", "/empty": ""} {
		if err := os.MkdirAll(filepath.Join(root, file), 0o700); err != nil {
			t.Fatal(err)
		}
		if want != "" {
			db := filepath.Join(root, file, "member/snap/db")
			if err := errors.Join(os.MkdirAll(filepath.Dir(db), 0o700), os.WriteFile(db, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		o := restorer{Options: Options{File: filepath.Join(root, file)}}
		_, err := o.source(t.Context(), &observe.Node{View: node.View{FS: disk}}, nil)
		if !engine.IsBadSnapshot(err) || !strings.HasSuffix(engine.Hint(err), want) ||
			(want == "") != (engine.Hint(err) == "") {
			t.Errorf("%s: %v; %q", file, err, engine.Hint(err))
		}
	}
}

// On several nodes, too, the coordinator knows its own data from a copy: by etcd's manifest.
func TestOnSeveralNodesOnlyTheDataOfEtcdIsItsOwn(t *testing.T) {
	const yaml = crashtest.TestManifestDir + "/etcd.yaml"
	machine := crashtest.Shape{Prepare: func(d *sim.Disk) {
		manifest, err := d.ReadFile(yaml)
		if err != nil {
			t.Fatal(err)
		}
		elsewhere := bytes.ReplaceAll(manifest, []byte("/var/lib/etcd"), []byte("/data/etcd"))
		if err := errors.Join(d.Remove(yaml), d.Create(yaml, elsewhere, node.Mine(0o600))); err != nil {
			t.Fatal(err)
		}
	}}.Machine(t)
	n := crashtest.Alone(t, machine).Process.Look
	f, err := ownEtcd(t.Context(), n, "run")
	if err != nil {
		t.Fatal(err)
	}
	own, other := backup.Copied(n, f, "/data/etcd", 0), backup.Copied(n, f, "/var/lib/etcd", 0)
	if own != "" || other == "" {
		t.Errorf("of its own data it says %q, and of other data %q", own, other)
	}
}
