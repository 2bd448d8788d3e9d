package status

import (
	"fmt"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// manyVoters is where a further member only costs: etcd's own documentation says that a cluster
// should have seven at most.
const manyVoters = 7

// judgeSize warns of a number of members that costs more than it gives, and of learners, which give
// nothing. While members are missing, or one is left over, their number is nobody's concern.
func (s seen) judgeSize() (w found) {
	l := s.facts.Live
	if l == nil || s.noQuorum() || s.stoppedByRun() {
		return nil
	}
	for _, m := range l.Members {
		if m.IsLearner && observe.Started(m) {
			w = append(w, finding.New(finding.MemberLearner, m.Name, "member %s is a learner: it has the data, but "+
				"neither votes nor serves. If no join is under way on its node, finish it there with `etcdpod resume` "+
				"or `etcdpod join`, or run `etcdpod remove %s`", m.Name, m.ID))
		}
	}
	if len(w)+len(s.silent)+len(s.judgeWho()) > 0 {
		return w
	}
	voters := l.Voters()
	spare := (voters - 1) / 2
	if voters%2 == 0 {
		loss := "none of them"
		if spare > 0 {
			loss = fmt.Sprint(spare)
		}
		w = append(w, finding.New(finding.MembersEven, fmt.Sprint(voters), "the cluster has %d voting members, and "+
			"survives the loss of %s: no more than with %d. Add one (`etcdpod join`), or remove one (`etcdpod remove`)",
			voters, loss, voters-1))
	}
	if voters >= manyVoters {
		w = append(w, finding.New(finding.MembersMany, fmt.Sprint(voters), "the cluster has %d voting members: every "+
			"write waits until %d of them have it on disk. Five survive the loss of two, and are faster: remove "+
			"some (`etcdpod remove`)", voters, voters/2+1))
	}
	return w
}
