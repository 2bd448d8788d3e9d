package phases

import (
	"path"
	"slices"
)

// The table of contents: each workflow is the list of its phases, in the order in which they are carried out.

// Backup is the workflow that takes a proven snapshot. It changes nothing of the node, and so runs whatever else is open.
func Backup(o BackupOptions) Workflow {
	return Workflow{Name: "backup", Passing: true, observe: o.observe, Phases: []Phase{
		o.preflight(),
		o.snapshot(),
		o.verifySnapshot(),
		o.keep(),
	}}
}

// Restore is the workflow that puts a snapshot, or the data of a stopped member, in the place of what etcd has on this node. On several nodes (o.Joint) each of them carries it
// out, and transaction.go has each phase end on all of them before the next one begins on any.
func Restore(o RestoreOptions) Workflow {
	if o.DataDir != "" {
		o.DataDir = path.Clean(o.DataDir)
	}
	w := Workflow{Name: "restore", observe: o.observe, Phases: []Phase{
		o.preflight(),
		o.verifySnapshot(),
		o.stageData(),
		o.fence(),
		o.exchangeData(),
		o.releaseEtcd(),
		o.awaitEtcd(),
		o.compareMembers(), // the commit point
		o.releaseAPIServer(),
		o.awaitAPIServer(),
		o.restartComponents(),
		o.rejoin(), // on several nodes only
		o.verifyRestored(),
	}}
	if o.Joint == nil {
		w.Phases = slices.DeleteFunc(w.Phases, func(p Phase) bool { return p.Name == "rejoin" })
	}
	return w
}
