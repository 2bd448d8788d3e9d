package phases

import (
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/restore"
)

// tooLate says of each workflow why a run past its commit point is not rolled back, and what
// reverses it.
func tooLate() map[string]engine.TooLate {
	run := func(advice string) func(journal.Run) string { return func(journal.Run) string { return advice } }
	return map[string]engine.TooLate{
		"restore": {Why: "the new data may be in use and hold new writes", Afterwards: restore.WayBack},
		"init":    {Why: "its etcd may be in use and hold writes"},
		"join": {Why: "the member votes, so the others may count on it",
			Afterwards: run("`etcdpod remove` on another member takes this one out of the cluster again")},
		"remove": {Why: "the member may have left already, and etcd never takes an ID again",
			Afterwards: run("its node comes back as a new member: `kubeadm reset` and `kubeadm join` there")},
		"replace": {Why: "the old member may have left already, and etcd never takes an ID again"},
		"handover": {Why: "the old member may have left already, and etcd never takes an ID again",
			Afterwards: run("`etcdpod replace` brings its machine in again as a new member")},
		"readdress": {Why: "the others reach the member at its new address",
			Afterwards: run("`etcdpod readdress --address OLD` goes back to the old one")},
		"renew": {Why: "others may have seen the new certificates",
			Afterwards: run("the old certificates are in the run's folder until `etcdpod prune`")},
		"apiserver": {Why: "the API server serves with the new settings",
			Afterwards: run("`etcdpod apiserver set` changes them again")},
		"upgrade": {Why: "the version of the cluster rises once all members run the new etcd",
			Afterwards: run("the way back is `etcdpod downgrade`, or a restore of the backup that the run has taken")},
		"downgrade": {Why: "members may run the older etcd already, and the data of all are of its minor",
			Afterwards: run("once it has ended, `etcdpod upgrade` goes up again")},
	}
}
