package upgrade

import (
	"fmt"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/flags"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// fromMinor is the first minor whose etcd can be taken down again.
const fromMinor = 6

// goesTo says whether a downgrade to the minor of the version was enabled, and has not ended.
func (j *judging) goesTo() bool {
	v, ok := parse(j.downgrade)
	return ok && v.minor == j.to.minor
}

// judgeDown refuses what is no downgrade by one minor.
func (j *judging) judgeDown() {
	for _, m := range j.members {
		if _, ok := parse(m.version); m.answers && !ok {
			j.say(Blocks, "run an etcd that tells its version", finding.EtcdVersionUnknown, m.name,
				"%s runs an etcd %q, which is no release of etcd 3", m.called(), m.version)
		}
	}
	if !j.known {
		return // no member answers, which is said
	}
	before, _ := newestOf(j.high.minor - 1)
	switch {
	case j.to.minor > j.high.minor:
		j.say(Blocks, fmt.Sprintf("`etcdpod upgrade --to %s`", j.to), finding.DowngradeMinors, j.to.String(),
			"%s is newer than %s, which runs: that is an upgrade", j.to, j.high)
	case j.to.minor == j.high.minor:
		j.say(Blocks, fmt.Sprintf("set the image of %s in the manifest of one member after the other, by hand", j.to),
			finding.DowngradeMinors, j.to.String(), "%s is of the minor that runs: a downgrade goes to the one before",
			j.to)
	case j.high.minor < fromMinor:
		j.say(Blocks, "restore a backup that the older etcd made: `etcdpod backups` lists them with their versions",
			finding.DowngradeMinors, j.to.String(), "etcd goes down from 3.%d on, and %s runs", fromMinor, j.high)
	case j.to.minor < j.high.minor-1:
		j.say(Blocks, fmt.Sprintf("go to %s first: `etcdpod downgrade --to %s`", before.line(), before),
			finding.DowngradeMinors, j.to.String(), "etcd goes down one minor at a time, and from %s to %s are %d",
			j.high.line(), j.to.line(), j.high.minor-j.to.minor)
	case flags.Of(j.to.line()) == nil:
		j.say(Blocks, "take the etcdpod that knows that version", finding.DowngradeMinors, j.to.String(),
			"this etcdpod does not know etcd %s", j.to.line())
	default:
		j.judgeTarget(before)
		j.judgeBegun()
	}
}

// judgeTarget is about the version itself.
func (j *judging) judgeTarget(newest version) {
	take := fmt.Sprintf("take %s: `etcdpod downgrade --to %s`", newest, newest)
	up := crossings()[j.to.minor]
	switch mended := observe.LosesData(j.to.String()); {
	case mended != "":
		j.say(Blocks, take, finding.EtcdVersionUnsafe, j.to.String(), "etcd %s can lose or corrupt data when it is "+
			"killed under load, which is mended in %s", j.to, mended)
	case j.to.before(up.floor):
		j.say(Notes, take, finding.UpgradeAdvised, j.to.String(), "from %s there is no way up again without a newer "+
			"patch release: %s asks for %s at least", j.to, j.high.line(), up.floor)
	case j.to.before(newest):
		j.say(Notes, take, finding.UpgradeAdvised, j.to.String(), "a newer patch release is known: %s", newest)
	}
}

// judgeBegun is about what was begun and has not ended: an upgrade, or a downgrade.
func (j *judging) judgeBegun() {
	if j.goesTo() {
		j.say(Notes, "nothing: the run goes on with it, and `etcdpod rollback` leaves it enabled",
			finding.EtcdDowngrade, j.downgrade, "a downgrade to %s was enabled before", j.to.line())
		return
	}
	if j.low.minor < j.high.minor {
		newest, _ := newestOf(j.high.minor)
		j.say(Blocks, fmt.Sprintf("finish it with `etcdpod upgrade --to %s`, or put the old image back there by hand",
			newest), finding.DowngradeMinors, j.low.line(), "some members run %s and some %s, and no downgrade was "+
			"enabled: an upgrade has not ended", j.low.line(), j.high.line())
		return
	}
	for _, m := range j.members {
		if s, ok := parse(m.storage); ok && s.minor < j.high.minor {
			j.say(Blocks, "wait until `etcdpod members -o json` shows the storageVersion "+j.high.line()+".0",
				finding.EtcdStorageOld, m.name, "the data of %s are still those of %s: etcd brings them up once all "+
					"members run %s", m.called(), s.line(), j.high.line())
		}
	}
}

// judgeTried says where kubeadm uses a newer etcd for the API servers that run.
func (j *judging) judgeTried() {
	oldest, node := j.oldestKubernetes()
	own, known := j.kubeadmsEtcd(oldest)
	if oldest == 0 || !known || j.to.minor >= own.minor {
		return
	}
	j.say(Notes, "see in its release notes whether it works with etcd "+j.to.line(), finding.KubernetesSkew, "",
		"the API server on %s is of Kubernetes 1.%d, for which kubeadm uses etcd %s: with %s it is hardly tried",
		node, oldest, own, j.to.line())
}
