package members

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// What a cluster would be without a member. etcd itself accepts a removal after which the next loss
// costs the quorum, and judges by the connections of the one member that is asked.

// behindBy is by how many entries a member may lag and count as being in step. etcd itself refuses
// clients of a member that has 5,000 committed entries to apply (server/etcdserver/v3_server.go:
// maxGapBetweenApplyAndCommitIndex).
const behindBy = 5000

// ails says why a member does not count as healthy; empty: it does.
func (c *ClusterFacts) ails(m MemberFacts) string {
	switch most := c.applied(); {
	case !observe.Started(m.Member):
		return "never started"
	case m.Error != nil:
		return fmt.Sprintf("does not answer (%v)", m.Error)
	case m.Applied+behindBy < most:
		return fmt.Sprintf("is %d entries behind", most-m.Applied)
	}
	return ""
}

// byName are the members in the order in which people list them.
func (c *ClusterFacts) byName() []MemberFacts {
	return slices.SortedFunc(slices.Values(c.Members), func(a, b MemberFacts) int {
		return cmp.Compare(a.Name, b.Name)
	})
}

func (c *ClusterFacts) applied() (most uint64) {
	for _, m := range c.Members {
		most = max(most, m.Applied)
	}
	return most
}

// spare is how many more voting members may be lost: negative is no quorum.
func spare(healthy, voters int) int { return healthy - (voters/2 + 1) }

// checkRemoval refuses a removal that the cluster would not survive, or that would leave it without
// a spare member although it has one now.
func (c *ClusterFacts) checkRemoval(gone MemberFacts, noSpare bool) error {
	if c.QuorumError != nil {
		return engine.Refuse("start the members that do not answer; if they are lost for good, restore the cluster: "+
			"/usr/share/doc/etcdpod/docs/runbooks/quorum-lost.md",
			"the cluster has no quorum, so it removes no member: %v", c.QuorumError)
	}
	if err := c.checkZombies(gone); err != nil || gone.IsLearner {
		return err
	}
	voters, healthy := 0, 0
	var sick []string
	for _, m := range c.Members {
		why := c.ails(m)
		switch {
		case m.ID == gone.ID:
			continue
		case m.IsLearner:
			return engine.Refuse(fmt.Sprintf("wait until it is promoted, or remove it first: `etcdpod remove %s`",
				m.ID), "a learner is joining, %s at %s: one change at a time", m.ID, strings.Join(m.PeerURLs, ","))
		case !observe.Started(m.Member):
			return engine.Refuse(fmt.Sprintf("start it, or remove it first: `etcdpod remove %s`", m.ID),
				"another member was added and never started: %s at %s", m.ID, strings.Join(m.PeerURLs, ","))
		case why != "":
			sick = append(sick, fmt.Sprintf("%s %s", observe.MemberName(m.Member), why))
		default:
			healthy++
		}
		voters++
	}
	return c.checkSpare(gone, voters, healthy, sick, noSpare)
}

func (c *ClusterFacts) checkSpare(gone MemberFacts, voters, healthy int, sick []string, noSpare bool) error {
	now := healthy
	if c.ails(gone) == "" {
		now++
	}
	after, before := spare(healthy, voters), spare(now, voters+1)
	because := ""
	if len(sick) > 0 {
		because = ": " + strings.Join(sick, "; ")
	}
	name := observe.MemberName(gone.Member)
	switch {
	case voters == 0:
		return engine.Refuse("to end the cluster, run `kubeadm reset` on its node",
			"%s is the last voting member: without it there is no cluster", name)
	case after < 0:
		return engine.Refuse("start or replace the others first; `etcdpod members` lists them",
			"without %s the cluster would lose its quorum at once (healthy others: %d of %d)%s",
			name, healthy, voters, because)
	case after == 0 && before > 0 && !noSpare:
		return engine.Refuse("add a member first (`etcdpod join` on a new node), or, if you mean it, add --no-spare",
			"without %s the next loss costs the quorum: %d of %d members would be healthy, and %d are needed%s",
			name, healthy, voters, voters/2+1, because)
	}
	return nil
}

// needs says whether the cluster as it is now has no quorum while a member is stopped: agreeing on
// a removal may take more members than going on after it. If that member answers, the others must
// be in step. If not, it may be as dead as it looks, and it is enough that the others answer.
func (c *ClusterFacts) needs(gone MemberFacts) bool {
	voters, run := 0, 0
	for _, m := range c.Members {
		if m.IsLearner {
			continue
		}
		voters++
		if m.ID != gone.ID && (c.ails(m) == "" || gone.Error != nil && m.Error == nil) {
			run++
		}
	}
	return !gone.IsLearner && spare(run, voters) < 0
}

// checkZombies refuses where a removed member may come back.
func (c *ClusterFacts) checkZombies(gone MemberFacts) error {
	for _, m := range c.Members {
		if m.ID != gone.ID && observe.ForgetsRemovals(m.Version) {
			return engine.Refuse("upgrade the members to 3.5.26 or later first",
				"%s runs etcd %s, in which a removed member may come back as one that nobody can remove",
				observe.MemberName(m.Member), m.Version)
		}
	}
	return nil
}
