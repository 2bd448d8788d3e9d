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

// Init is the workflow that makes the first member of a cluster on this node, from its certificates to an etcd that serves. What is there already, and good, stays.
func Init(o InitOptions) Workflow {
	return Workflow{Name: "init", Phases: o.phases(), observe: o.observer("")}
}

// InitPhase is the workflow of one phase of Init, for use beside kubeadm.
func InitPhase(o InitOptions, phase string) (Workflow, error) { return o.only(phase) }

// Join is the workflow that makes this node one more member of a cluster, from its certificates to an etcd that votes and serves. A member that an earlier try left half-way is gone on with.
func Join(o JoinOptions) Workflow {
	return Workflow{Name: "join", Phases: o.phases(), observe: o.observer("")}
}

// JoinPhase is the workflow of one phase of Join, for use beside kubeadm.
func JoinPhase(o JoinOptions, phase string) (Workflow, error) { return o.only(phase) }

// RenewCerts is the workflow that gives certificates of etcd, and of its clients on this node, a new life. What uses them is started anew, one pod after the other.
func RenewCerts(o RenewOptions) Workflow {
	return Workflow{Name: "renew", observe: o.observe, Phases: []Phase{
		o.preflight(),
		o.issue(),
		o.replace(),
		o.restartEtcd(),
		o.restartAPIServer(), // the commit point is at its end
	}}
}

// SetAPIServer is the workflow that changes which etcds the API server of this node uses, and with which files. An API server that does not get ready with it goes back by itself.
func SetAPIServer(o APIServerOptions) Workflow {
	return Workflow{Name: "apiserver", observe: o.observe, Phases: []Phase{
		o.preflight(),
		o.set(),
		o.awaitAPIServer(), // the commit point is at its end
	}}
}

// RequestCerts is the workflow that makes keys, and requests for an external CA. It changes nothing of what is in use; cut off, it leaves no key about.
func RequestCerts(o RequestOptions) Workflow {
	return Workflow{Name: "request", observe: o.observe, Phases: []Phase{
		o.preflight(),
		o.request(),
	}}
}
