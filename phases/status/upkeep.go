package status

import (
	"cmp"
	"fmt"
	"time"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// What works today, and will not for long.

func (s seen) judgeVersion() found {
	version := s.facts.EtcdVersion()
	newest := fmt.Sprintf("upgrade to the newest 3.%d", observe.EtcdMinor(version))
	switch mended := observe.LosesData(version); {
	case mended != "":
		return one(finding.EtcdVersionUnsafe, s.facts.Etcd.Name, "etcd %s can lose or corrupt data when it is killed "+
			"under load, which is mended in %s: %s", version, mended, newest)
	case observe.ForgetsRemovals(version):
		return one(finding.EtcdForgetsRemovals, s.facts.Etcd.Name, "etcd %s can forget that a member was removed, so "+
			"that it comes back with the upgrade to 3.6, and nobody can remove it; this is mended in 3.5.26: %s",
			version, newest)
	}
	return nil
}

func (s seen) judgeDowngrade() found {
	l := s.facts.Live
	if l == nil || l.Downgrade == "" {
		return nil
	}
	line := fmt.Sprintf("3.%d", observe.EtcdMinor(l.Downgrade))
	return one(finding.EtcdDowngrade, l.Downgrade, "a downgrade of etcd to %s was enabled and has not ended: finish "+
		"it with `etcdpod downgrade --to %s`, and --nodes where there are several, or cancel it with `etcdpod "+
		"downgrade cancel`", line, cmp.Or(observe.NewestEtcd(line), line+".N"))
}

// refusesBehind is how many entries a member may be behind before it refuses requests as too many
// (etcd, server/etcdserver/v3_server.go: maxGapBetweenApplyAndCommitIndex).
const refusesBehind = 5000

func (s seen) judgeLag() found {
	l := s.facts.Live
	if l == nil || l.Committed <= l.Applied || l.Committed-l.Applied < refusesBehind {
		return nil
	}
	return one(finding.MemberBehind, s.facts.Etcd.Name, "etcd has not applied the last %d entries of its log, and "+
		"refuses requests: its disk or processor is too slow; see with `etcdpod members` whether it catches up",
		l.Committed-l.Applied)
}

// soonFull is within what time a quota that will be reached is worth a warning.
const soonFull = 30 * 24 * time.Hour

// judgeGrowth compares the size of the file, which is below its quota, with what backups of the
// same member had. A file that is less than half full may well have grown fast.
func (s seen) judgeGrowth() found {
	l := s.facts.Live
	if l.SizeBytes <= s.quotaBytes()/2 {
		return nil
	}
	then := s.firstBackup(func(b backup.Entry) bool {
		return b.Code == "" && b.ClusterID == fmt.Sprintf("%x", l.ClusterID) &&
			s.facts.Now.Sub(b.TakenAt) >= 24*time.Hour
	})
	if then == nil || then.SizeBytes >= l.SizeBytes {
		return nil
	}
	since := s.facts.Now.Sub(then.TakenAt)
	left := since.Hours() * float64(s.quotaBytes()-l.SizeBytes) / float64(l.SizeBytes-then.SizeBytes)
	if left > soonFull.Hours() { // it may be more than a duration can be
		return nil
	}
	return one(finding.EtcdGrows, s.facts.Etcd.Name, "etcd's file has grown from %s to %s in %s: at that pace it "+
		"reaches the quota of %s in about %s, and then refuses all writes. Find out what grows: `etcdpod verify "+
		"FILE` counts the keys of a backup", engine.Size(then.SizeBytes), engine.Size(l.SizeBytes), days(since),
		engine.Size(s.quotaBytes()), days(time.Duration(left*float64(time.Hour))))
}

func days(d time.Duration) string {
	n := int(d.Hours()+12) / 24
	switch n {
	case 0:
		return "less than a day"
	case 1:
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}
