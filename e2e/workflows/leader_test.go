package workflows

import (
	"encoding/json"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// moved is what programs read of `members move-leader -o json`.
type moved struct {
	From, To struct{ ID, Name string }
	Moved    bool
	Seconds  float64
	Notes    []string
}

func (c *cluster) moveLeader(on, args string) (m moved) {
	c.t.Helper()
	must(c.t, json.Unmarshal([]byte(c.typed(on, "etcdpod members move-leader -o json "+args, 0)), &m))
	return m
}

// leads is the name of the member that leads, once one does.
func (c *cluster) leads() (name string) {
	c.t.Helper()
	c.nodes[0].eventually("a member leads", func() bool {
		l := c.members("cp1")
		for _, m := range l.Members {
			if m.ID == l.Leader {
				name = m.Name
			}
		}
		return name != ""
	})
	return name
}

func TestTheLeaderIsMoved(t *testing.T) {
	c := startTogether(t)
	must(t, c.WaitReady(c.ctx))
	before := c.states()
	first := c.leads()

	// Without a yes, and with --dry-run, nothing is done.
	c.typed("cp1", "etcdpod members move-leader", 2, "needs confirmation and there is no terminal")
	if m := c.moveLeader("cp1", "--dry-run"); m.Moved || m.From.Name != first || m.To.Name == first {
		t.Errorf("--dry-run says %+v", m)
	}
	c.typed("cp1", "etcdpod members move-leader --dry-run", 0, first+" (", "Lost:", "Way back:",
		"etcdpod members move-leader "+first, "Nothing was changed")
	c.typed("cp1", "etcdpod members move-leader --yes "+first, 0, "Nothing to do: "+first+" (", "leads already")
	if c.leads() != first {
		t.Fatalf("%s leads, and %s did", c.leads(), first)
	}

	// From any node, to any member, by whatever it is called.
	l := c.members("cp1")
	for _, to := range []struct{ on, name, word string }{
		{"cp1", "cp2", l.named(t, "cp2").ID}, {"cp1", "cp3", l.named(t, "cp3").PeerURLs[0]},
		{"cp2", "cp1", "cp1"}, {"cp3", "cp2", l.named(t, "cp2").ClientURLs[0]},
	} {
		if to.name == c.leads() {
			continue
		}
		if m := c.moveLeader(to.on, "--yes "+to.word); !m.Moved || m.To.Name != to.name || c.leads() != to.name {
			t.Errorf("%s moved to %s: %+v", to.on, to.name, m)
		}
	}
	was := c.leads()
	if m := c.moveLeader("cp1", "--yes"); !m.Moved || m.From.Name != was || m.To.Name == was || c.leads() != m.To.Name {
		t.Errorf("without a member: %+v", m)
	}
	c.typed("cp1", "etcdpod members move-leader --yes cp9", 5, "there is no member cp9", "etcdpod members")
	c.typed("cp1", "etcdpod members move-leader --yes cp1 cp2", 2, "unexpected argument")
	c.wantAsBefore(before)

	// One that does not answer, and one that does not vote.
	c.moveLeader("cp1", "--yes cp1")
	cp2, cp3 := c.nodes[1], c.nodes[2]
	cp3.stopEtcd()
	c.typed("cp1", "etcdpod members move-leader --yes cp3", 5, "cannot move the leader to cp3: it does not answer")
	if m := c.moveLeader("cp1", "--yes"); m.To.Name != "cp2" || len(m.Notes) != 1 ||
		!strings.Contains(m.Notes[0], "cp3 does not answer") {
		t.Errorf("beside one that does not answer: %+v", m)
	}
	must(t, cp3.StartKubelet(c.ctx))
	must(t, c.WaitReady(c.ctx))
	var learner string
	cp2.eventually("a learner can be added", func() bool {
		cl, err := cp2.EtcdClient()
		must(t, err)
		defer cl.Close()
		r, err := clientv3.NewCluster(cl).MemberAddAsLearner(c.ctx, []string{"https://127.0.0.99:2380"})
		if err == nil {
			learner = r.Member.PeerURLs[0]
		}
		return err == nil
	})
	c.typed("cp1", "etcdpod members move-leader --yes "+learner, 5, "cannot move the leader to one not started yet")

	// Without a quorum.
	for _, n := range []*node{cp2, cp3} {
		n.stopEtcd()
	}
	c.typed("cp1", "etcdpod members move-leader --yes", 5, "cannot move the leader: no quorum answers")
}
