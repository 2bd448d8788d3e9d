package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/flags"
)

// judging holds what was seen against one version.
type judging struct {
	*looked
	to        version
	low, high version // that run
	known     bool
	found     []Finding
}

func (j *judging) say(weight Weight, next string, code finding.Code, subject, format string, args ...any) {
	j.found = append(j.found, Finding{Finding: finding.New(code, subject, format, args...), Weight: weight, Next: next})
}

// on is say, about a node.
func (j *judging) on(node string, weight Weight, next string, code finding.Code, subject, format string, args ...any) {
	f := Finding{Finding: finding.New(code, subject, format, args...), Weight: weight, Next: next}
	f.Node = node
	j.found = append(j.found, f)
}

// runsEverywhere says whether all members run the version already.
func (j *judging) runsEverywhere() bool {
	return len(j.members) > 0 && !slices.ContainsFunc(j.members, func(m listed) bool {
		v, ok := parse(m.version)
		return !ok || v != j.to
	})
}

// judge returns all that is found, the worst first.
func (j *judging) judge(table []Member) []Finding {
	j.found = []Finding{}
	checks := []func(){j.judgeVersions, j.judgeGates, j.judgeCluster, j.judgeMembers, j.judgeData, j.judgeV2,
		j.judgeNodes, j.judgeKubernetes}
	if j.down {
		checks = []func(){j.judgeDown, j.judgeCluster, j.judgeMembers, j.judgeNodes, j.judgeTried}
	}
	for _, one := range checks {
		one()
	}
	j.judgeFlags(table)
	j.judgeImages()
	order := []Weight{Blocks, Doubts, Notes}
	slices.SortStableFunc(j.found, func(a, b Finding) int {
		return slices.Index(order, a.Weight) - slices.Index(order, b.Weight)
	})
	return j.found
}

// seenOf is the node that runs a member; nil: it was not looked at.
func (j *judging) seenOf(m listed) *Seen {
	i := slices.IndexFunc(j.seen, func(s Seen) bool { return s.MemberID != 0 && s.MemberID == m.id })
	if i < 0 {
		return nil
	}
	return &j.seen[i]
}

// minorOf is the line that a member leaves; empty: not known.
func minorOf(m listed) string {
	v, ok := parse(m.version)
	if !ok {
		return ""
	}
	return v.line()
}

// judgeVersions refuses what is no upgrade by one minor at most.
func (j *judging) judgeVersions() {
	for _, m := range j.members {
		if _, ok := parse(m.version); m.answers && !ok {
			j.say(Blocks, "run an etcd that tells its version", finding.EtcdVersionUnknown, m.name,
				"%s runs an etcd %q, which is no release of etcd 3", m.called(), m.version)
		}
	}
	switch newest, known := newestOf(j.to.minor); {
	case !j.known: // no member answers, which is said
	case !known:
		releases := flags.Releases()
		j.say(Blocks, "take the etcdpod that knows that version", finding.UpgradeMinors, j.to.String(),
			"this etcdpod knows etcd %s to %s, and not %s", releases[0].Minor, releases[len(releases)-1].Minor,
			j.to.line())
	case j.to.before(j.high):
		j.say(Blocks, "give a version that is newer than all that run; to the minor before goes `etcdpod downgrade`",
			finding.UpgradeOlder, j.to.String(),
			"%s is older than %s, which runs: that would be a downgrade", j.to, j.high)
	case j.to.minor > j.low.minor+1:
		next, _ := newestOf(j.low.minor + 1)
		j.say(Blocks, fmt.Sprintf("go to %s first: `etcdpod upgrade plan --to %s`", next.line(), next),
			finding.UpgradeMinors, j.to.String(), "etcd goes up one minor at a time, and from %s to %s are %d",
			j.low.line(), j.to.line(), j.to.minor-j.low.minor)
	case j.to.before(newest):
		j.say(Notes, fmt.Sprintf("take it: `etcdpod upgrade plan --to %s`", newest), finding.UpgradeAdvised,
			j.to.String(),
			"a newer patch release is known: %s", newest)
	}
}

// judgeGates holds each member's version against what etcd asks for before the next minor.
func (j *judging) judgeGates() {
	c, crosses := j.crossing()
	if !crosses {
		return
	}
	newest, _ := newestOf(j.low.minor)
	first := fmt.Sprintf("go to the newest %s first: `etcdpod upgrade plan --to %s`", newest.line(), newest)
	for _, m := range j.members {
		switch v, _ := parse(m.version); j.gateOf(m) {
		case "failed":
			j.say(Blocks, first, finding.UpgradeFloor, m.name, "%s runs etcd %s, and %s asks for %s at least: %s",
				m.called(), v, j.to.line(), c.floor, c.why)
		case "advised":
			j.say(Notes, first, finding.UpgradeAdvised, m.name, "%s runs etcd %s, and %s is advised before %s: %s",
				m.called(), v, c.advised, j.to.line(), c.because)
		}
		// etcd writes the version of its data down once all members run it.
		if s, ok := parse(m.storage); ok && j.low.minor >= 6 && s.minor < j.low.minor {
			j.say(Blocks, "wait until `etcdpod members -o json` shows the storageVersion "+j.low.line()+".0",
				finding.EtcdStorageOld, m.name, "the data of %s are still those of %s: etcd brings them up once all "+
					"members run %s", m.called(), s.line(), j.low.line())
		}
	}
}

// crossing is what is asked for before the next minor; false: the minor stays, or is another.
func (j *judging) crossing() (crossing, bool) {
	c, known := crossings()[j.low.minor]
	return c, j.known && known && j.to.minor == j.low.minor+1
}

// gateOf is how a member stands; empty: nothing is asked of it.
func (j *judging) gateOf(m listed) string {
	c, crosses := j.crossing()
	v, ok := parse(m.version)
	switch {
	case !crosses || !ok || v.minor != j.low.minor:
		return ""
	case v.before(c.floor):
		return "failed"
	case v.before(c.advised):
		return "advised"
	}
	return "passed"
}

// judgeCluster is about what the cluster is like as a whole.
func (j *judging) judgeCluster() {
	if !j.quorum {
		j.say(Blocks, "`etcdpod members` shows which members do not answer: start them", finding.EtcdNoQuorum,
			j.through,
			"no quorum answers")
	}
	for _, a := range j.alarms {
		next := "run `etcdpod status`: it says what to do about it"
		if a.Name == etcd.NoSpace {
			next = "run `etcdpod defrag`: it disarms the alarm once every member is below its quota"
		}
		j.say(Blocks, next, finding.EtcdAlarm, a.Name+" of member "+etcd.FormatID(a.MemberID),
			"the alarm %s of %s is raised", a.Name, j.nameOf(a.MemberID))
	}
	if j.downgrade != "" && !(j.down && j.goesTo()) {
		j.say(Blocks, "end it with `etcdpod downgrade`, or cancel it: `etcdpod downgrade cancel`",
			finding.EtcdDowngrade, j.downgrade, "a downgrade to %s was enabled and has not ended", j.downgrade)
	}
	switch j.voters() {
	case 1:
		j.say(Notes, "choose a time when that does no harm", finding.EtcdNoWrites, "",
			"there is one member: while it starts anew, etcd serves nobody")
	case 2:
		j.say(Blocks, "add a third with `etcdpod join`, or remove one with `etcdpod remove`", finding.MembersTwo, "",
			"of two members none may be away: if the new one does not come up, nothing serves")
	}
}

func (j *judging) voters() (n int) {
	for _, m := range j.members {
		if m.role != "learner" {
			n++
		}
	}
	return n
}

func (j *judging) nameOf(id uint64) string {
	if id == 0 {
		return "no particular member"
	}
	for _, m := range j.members {
		if m.id == id {
			return m.called()
		}
	}
	return etcd.FormatID(id) + ", which is no member any more,"
}

// justStarted is until when etcd does not count a member as healthy (server/etcdserver:
// HealthInterval).
const justStarted = 5 // seconds

// judgeMembers is about each member as it answers.
func (j *judging) judgeMembers() {
	for _, m := range j.members {
		s := j.seenOf(m)
		switch {
		case !m.started:
			j.say(Blocks, "start it, or remove it: `etcdpod remove "+etcd.FormatID(m.id)+"`",
				finding.MemberNeverStarted,
				etcd.FormatID(m.id), "the member %s has never started", m.called())
		case !m.answers:
			j.say(Blocks, "start it: `etcdpod status` on its node says what keeps it from answering",
				finding.MemberSilent,
				m.name, "%s does not answer: %s", m.called(), m.why)
		case m.role == "learner":
			j.say(Blocks, "finish what added it with `etcdpod join` on its node, or remove it: `etcdpod remove "+
				etcd.FormatID(m.id)+"`", finding.MemberLearner, m.name, "%s is a learner", m.called())
		case m.behind > 0:
			j.say(Blocks, "wait until `etcdpod members` shows that it has caught up", finding.MemberBehind, m.name,
				"%s is %d entries behind, and does not catch up", m.called(), m.behind)
		case s != nil && s.RunsFor > 0 && s.RunsFor.Seconds() < justStarted:
			j.say(Blocks, "wait a few seconds, and look again", finding.MemberYoung, m.name,
				"%s was started %.1f s ago, and etcd counts a member as healthy after %d s", m.called(),
				s.RunsFor.Seconds(), justStarted)
		}
		if m.answers && s == nil && !j.isUnseen(m) {
			command := "etcdpod upgrade plan"
			if j.down {
				command = "etcdpod downgrade --to " + j.to.String()
			}
			j.say(Doubts, "name all of them: `"+command+" --nodes "+strings.Join(j.allNodes(), ",")+"`",
				finding.NodesUnseen, m.name, "nobody has looked at the data, the flags and the disk of %s", m.called())
		}
	}
}

// isUnseen says whether a member's node is said to be out of reach.
func (j *judging) isUnseen(m listed) bool {
	return slices.ContainsFunc(j.unseen, func(u unseenNode) bool { return u.name == m.name || u.name == m.node }) ||
		slices.ContainsFunc(j.seen, func(s Seen) bool {
			return s.MemberID == 0 && (s.Node == m.name ||
				s.Node == m.node)
		})
}

// allNodes are the nodes of all members: kubeadm names a member after its node.
func (j *judging) allNodes() (names []string) {
	for _, m := range j.members {
		switch {
		case m.node != "":
			names = append(names, m.node)
		case m.name != "":
			names = append(names, m.name)
		}
	}
	slices.Sort(names)
	return names
}
