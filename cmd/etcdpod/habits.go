package main

import (
	"fmt"
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

// fileHabit is the hint for who, where a FILE may be, gives what is a command of other programs;
// empty: it is none. A backup in a file of that name would hardly be found again.
func fileHabit(arguments []string) string {
	if len(arguments) == 0 {
		return ""
	}
	does := ""
	switch arguments[0] {
	case "list", "ls":
		does = "`etcdpod backups` lists the backups"
	case "show":
		does = "`etcdpod backups` lists the backups, and `etcdpod verify FILE` shows what one holds"
	case "create":
		does = "`etcdpod backup` takes a backup"
	default:
		return ""
	}
	return fmt.Sprintf("%s; for a file of that name, give ./%s", does, arguments[0])
}

func habits() map[string]string {
	const (
		notOurs = "etcdpod does not do that; "
		state   = "`etcdpod status` shows it, and `etcdpod status --nodes cp1,cp2,cp3` shows it for all members"
		list    = "`etcdpod members` lists them"
		unit    = "run `etcdpod units systemd backup`, `etcdpod units systemd defrag` or `etcdpod units systemd status`"
		end     = "`etcdpod rollback` undoes the open run, `etcdpod resume` finishes it"
	)
	all := map[string]string{
		"snapshot save":    "run `etcdpod backup FILE`",
		"snapshot restore": "run `etcdpod restore FILE`",
		"snapshot status":  "run `etcdpod verify FILE`",
		"snapshot": "run `etcdpod backup`, `etcdpod verify FILE` or `etcdpod restore FILE`; `etcdpod backups` " +
			"lists snapshots",
		"save":           "run `etcdpod backup FILE`",
		"member list":    list,
		"member update":  "run `etcdpod members set-peer-url MEMBER URL`",
		"move-leader":    "run `etcdpod members move-leader`",
		"set-peer-url":   "run `etcdpod members set-peer-url MEMBER URL`",
		"member":         list,
		"member add":     "run `etcdpod join` on the new node",
		"member remove":  "run `etcdpod remove MEMBER`",
		"member promote": "run `etcdpod join phase promote-learner` on the learner's node",
		"upgrade apply": "for etcd run `etcdpod upgrade --to VERSION --nodes cp1,cp2,cp3`; Kubernetes is upgraded " +
			"with `kubeadm upgrade apply`",
		"upgrade node": "for etcd run `etcdpod upgrade --to VERSION --nodes cp1,cp2,cp3`; Kubernetes is upgraded " +
			"with `kubeadm upgrade node`",
		"check-expiration": "run `etcdpod certs check`",
		"renew":            "run `etcdpod certs renew`",
		"init phase etcd":  "run `etcdpod init phase render-etcd`",
		"verify-snapshot":  "run `etcdpod verify FILE`",
		"history":          "run `etcdpod runs`, or `etcdpod runs show` for the newest run",
		"log":              "run `etcdpod runs show`: it shows the newest run",
		"logs":             "run `etcdpod runs show`: it shows the newest run",
		"continue":         end,
		"undo":             end,
		"abort":            end,
		"cancel":           end,
		"systemd":          unit,
		"timer":            unit,
		"cron":             unit,
		"cronjob":          "run `etcdpod units cronjob backup`, or `etcdpod units cronjob defrag`",
		"rehearsal":        "run `etcdpod rehearse latest`",
		"drill":            "run `etcdpod rehearse latest`",
		"cleanup":          "run `etcdpod prune`",
		"clean":            "run `etcdpod prune`",
		"alarm disarm": "run `etcdpod defrag`: it disarms NOSPACE once every database is below its quota; " +
			"`etcdctl alarm disarm` gives no space back",
	}
	all["downgrade enable"] = "run `etcdpod downgrade --to VERSION --nodes cp1,cp2,cp3`: it enables it, and replaces " +
		"the members"
	all["downgrade validate"] = "run `etcdpod downgrade --to VERSION --nodes cp1,cp2,cp3 --dry-run`"
	for own, runs := range map[string]string{"init": "init", "join": "join", "replace": "replace MEMBER",
		"readdress": "readdress", "defrag": "defrag", "upgrade": "upgrade --to VERSION",
		"downgrade": "downgrade --to VERSION"} {
		all["member "+own] = "run `etcdpod " + runs + "`"
	}
	for _, does := range []string{"list", "add", "remove", "update", "promote", "init", "join", "replace",
		"readdress", "defrag", "upgrade", "downgrade"} {
		all["members "+does] = all["member "+does]
	}
	for _, word := range []string{"endpoint health", "endpoint status", "endpoint hashkv",
		"endpoint", "hashkv", "alarm", "alarm list", "health", "check"} {
		all[word] = state
	}
	for _, word := range []string{"compact", "compaction", "get", "put", "del", "txn", "watch", "lease", "lock",
		"elect", "auth", "user", "role", "check perf", "check datascale", "make-mirror"} {
		all[word] = notOurs + "`etcdctl " + word + "` does"
	}
	for _, word := range []string{"reset", "token", "config", "kubeconfig", "certs certificate-key"} {
		all[word] = notOurs + "`kubeadm " + word + "` does"
	}
	return all
}
