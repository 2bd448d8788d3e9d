package crashtest

import (
	"path"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Removed leaves the node as a finished run of `remove` does that has stopped its member, and
// returns the run's id.
func (w *Node) Removed() string {
	w.T.Helper()
	must := func(err error) {
		if err != nil {
			w.T.Fatal(err)
		}
	}
	const id = "20231114T221320Z-remove-0001"
	from := TestManifestDir + "/etcd.yaml"
	stop := &op.StopMember{TakeOutManifest: op.TakeOutManifest{From: from,
		To: path.Join(journal.RunDir(id), "manifests/etcd.yaml")}}
	host := w.Machine.Host()
	must(node.MkdirAll(host.FS, path.Dir(stop.To), node.Mine(0o700)))
	must(node.Move(host.FS, from, stop.To))
	body, err := op.Encode(stop)
	must(err)
	j, err := journal.Create(host.FS, host.Clock, journal.RunDir(id), journal.Run{ID: id, Workflow: "remove",
		Node: w.Name, Command: []string{"etcdpod", "remove", w.Name},
		Plan: []journal.Step{{Phase: "stop-member", Kind: op.Kind(stop), Op: body}}, CommitAt: 1})
	must(err)
	for _, r := range []journal.Record{{Kind: journal.Start, Op: body}, {Kind: journal.Finish},
		{Kind: journal.Commit}, {Kind: journal.End}} {
		must(j.Append(r))
	}
	return id
}
