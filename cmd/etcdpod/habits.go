package main

import (
	"strings"
)

// habit returns what stands here for a command of etcdctl, etcdutl, kubeadm or of other programs,
// and as much of the words as was meant by it; empty: none is known.
func habit(words []string) (typed, hint string) {
	for n := min(len(words), 3); n > 0; n-- {
		typed = strings.Join(words[:n], " ")
		if hint := habits()[typed]; hint != "" {
			return typed, hint
		}
	}
	return "", ""
}

func habits() map[string]string {
	const (
		notOurs = "etcdpod does not do that; "
		state   = "`etcdpod status` says it, and `etcdpod status --nodes cp1,cp2,cp3` of all members"
		end     = "`etcdpod rollback` undoes the run that is open, and `etcdpod resume` finishes it"
	)
	all := map[string]string{
		"snapshot save":    "type `etcdpod backup FILE`",
		"snapshot restore": "type `etcdpod restore FILE`",
		"snapshot status":  "type `etcdpod verify FILE`",
		"snapshot": "type `etcdpod backup`, `etcdpod verify FILE` or `etcdpod restore FILE`; `etcdpod backups` " +
			"lists snapshots",
		"save":             "type `etcdpod backup FILE`",
		"member add":       "type `etcdpod join`, on the node that is to become a member",
		"member promote":   "type `etcdpod join phase promote-learner`, on the learner's node",
		"check-expiration": "type `etcdpod certs check`",
		"renew":            "type `etcdpod certs renew`",
		"init phase etcd":  "type `etcdpod init phase render-etcd`",
		"verify-snapshot":  "type `etcdpod verify FILE`",
		"history":          "type `etcdpod runs`, or `etcdpod runs show` for the newest one",
		"log":              "type `etcdpod runs show`, for the newest run",
		"logs":             "type `etcdpod runs show`, for the newest run",
		"continue":         end,
		"undo":             end,
		"abort":            end,
		"cancel":           end,
		"cleanup":          "type `etcdpod prune`",
		"clean":            "type `etcdpod prune`",
	}
	for _, word := range []string{"member list", "members", "endpoint health", "endpoint status", "endpoint hashkv",
		"endpoint", "hashkv", "alarm list", "health", "check"} {
		all[word] = state
	}
	for _, word := range []string{"member remove", "member update", "alarm disarm", "alarm", "defrag", "compact",
		"compaction", "move-leader", "get", "put", "del", "txn", "watch", "lease", "lock", "elect", "auth", "user",
		"role", "check perf", "check datascale", "make-mirror", "downgrade"} {
		all[word] = notOurs + "`etcdctl " + word + "` does"
	}
	all["member"] = state
	for _, word := range []string{"reset", "upgrade", "token", "config", "kubeconfig", "certs certificate-key"} {
		all[word] = notOurs + "`kubeadm " + word + "` does"
	}
	return all
}
