package workflows

import (
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

func TestWhatWasBackedUpIsRestoredOnEveryEtcd(t *testing.T) {
	for _, version := range binaries.EtcdVersions() {
		t.Run("etcd "+version, func(t *testing.T) {
			n := start(t, sandbox.Options{EtcdBinary: etcdBinary(t, version)})
			b := n.backup()
			n.done("verify", b.file)
			n.change()
			before := n.state()
			if len(sandbox.Diff(b.keys, before.keys)) < 4 {
				t.Fatal("the data was not changed since the backup")
			}
			n.done("restore", b.file, "--yes")
			n.wantNew(b, before)
			run := n.lastRun()
			if run.State != "completed" || !run.Committed {
				t.Errorf("the run is listed as %+v", run)
			}

			// What was replaced is kept, and going back to it is a run of its own.
			restored := n.state()
			kept := run.Path + "/data"
			n.done("restore", "--from-data-dir", kept, "--yes")
			n.wantNew(backup{keys: before.keys}, restored)
		})
	}
}
