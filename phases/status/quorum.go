package status

import (
	"fmt"
	"slices"

	"github.com/etcdpod/etcdpod/phases/observe"
)

// Quorum is how many of the voting members serve, as this node sees them.
type Quorum struct {
	Voters  int    `json:"voters"`
	Serve   int    `json:"serve"`
	MayLose int    `json:"mayLose"` // how many more; below 0: so many are missing for a quorum
	Text    string `json:"text"`    // the same, for people
}

// quorum says what the next loss would do; nil where etcd does not answer.
func (s seen) quorum() *Quorum {
	l := s.facts.Live
	if l == nil {
		return nil
	}
	q := Quorum{Voters: l.Voters()}
	for _, m := range l.Members {
		silent := slices.ContainsFunc(s.silent, func(o observe.Member) bool { return o.ID == m.ID })
		if !m.IsLearner && observe.Started(m) && !silent {
			q.Serve++
		}
	}
	q.MayLose = q.Serve - (q.Voters/2 + 1)
	q.Text = q.say(s.facts.LiveError != nil || s.noQuorum())
	return &q
}

func (q Quorum) say(down bool) string {
	serve := fmt.Sprintf("%d of %d members serve", q.Serve, q.Voters)
	switch {
	case down && q.MayLose >= 0:
		return fmt.Sprintf("%d of %d members answer, but etcd does not serve", q.Serve, q.Voters)
	case q.MayLose < 0:
		return fmt.Sprintf("%d of %d members answer, and %d must: etcd serves nobody", q.Serve, q.Voters, q.Voters/2+1)
	case q.Voters == 1:
		return "the only member serves: if it is lost, only a backup brings the cluster back"
	case q.MayLose == 0:
		return serve + "; none may be lost: without one more, etcd serves nobody"
	}
	return fmt.Sprintf("%s; %s may be lost", serve, inWords(q.MayLose))
}

func inWords(n int) string {
	if words := []string{"none", "one", "two", "three", "four"}; n < len(words) {
		return words[n]
	}
	return fmt.Sprint(n)
}

// quorum is that of the nodes' cluster, as the node sees it that sees the fewest members; nil
// where they are members of several clusters, or none answers.
func (s *NodesStatus) quorum() (q *Quorum) {
	cluster := ""
	for _, n := range s.Nodes {
		m := memberOf(n)
		switch {
		case m == nil || n.Status.Quorum == nil:
		case cluster != "" && m.ClusterID != cluster:
			return nil
		case q == nil || n.Status.Quorum.Serve < q.Serve:
			q, cluster = n.Status.Quorum, m.ClusterID
		}
	}
	return q
}
