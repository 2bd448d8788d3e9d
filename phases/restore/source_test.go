package restore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/node"
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
