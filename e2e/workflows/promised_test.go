package workflows

import (
	"testing"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// A restore was killed between the release of etcd and the commit point, and a client has written
// since, as an API server does that somebody lets run by hand: neither data is given up without a
// word, and both can be had.
func TestWhatWasWrittenBeforeTheCommitPointIsKeptWhicheverWayTheRunEnds(t *testing.T) {
	const key, value = "/registry/configmaps/late/acknowledged", `{"kind":"ConfigMap"}`
	written := func(t *testing.T) (*node, backup, state) {
		n := start(t, sandbox.Options{})
		b := n.backup()
		n.change()
		before := n.state()
		n.killWhen(atOperation("compare "), "restore", b.file, "--yes")
		n.put(key, value)
		n.want(5, []string{"rollback"}, "clients have written to the new data", "etcdpod resume", "--give-up-writes")
		return n, b, before
	}
	t.Run("forward", func(t *testing.T) {
		n, b, before := written(t)
		n.done("resume")
		b.keys[key] = value
		n.wantNew(b, before)
	})
	t.Run("back", func(t *testing.T) {
		n, _, before := written(t)
		run := n.lastRun()
		n.want(0, []string{"rollback", "--give-up-writes"}, "it is kept as "+run.Path+"/data/member")
		n.wantOld(before)
		n.done("restore", "--from-data-dir", run.Path+"/data", "--yes")
		if got := n.keys()[key]; got != value {
			t.Errorf("the kept data holds %q", got)
		}
	})
}
