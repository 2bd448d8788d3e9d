package status

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

func TestStatusSaysWhatTheNextLossWouldDo(t *testing.T) {
	for _, c := range []struct {
		name   string
		voters int
		change func(*seen)
		want   string
		spare  int
	}{
		{"one", 1, func(*seen) {}, "the only member serves: if it is lost, only a backup brings the cluster back", 0},
		{"two", 2, func(*seen) {}, "2 of 2 members serve; none may be lost: without one more, etcd serves nobody", 0},
		{"three", 3, func(*seen) {}, "3 of 3 members serve; one may be lost", 1},
		{"five", 5, func(*seen) {}, "5 of 5 members serve; two may be lost", 2},
		{"one of three is silent", 3, func(s *seen) { s.silent = s.facts.Live.Members[2:] },
			"2 of 3 members serve; none may be lost", 0},
		{"one of five is silent, and one never started", 5, func(s *seen) {
			s.silent, s.facts.Live.Members[3].Name = s.facts.Live.Members[4:], ""
		}, "3 of 5 members serve; none may be lost", 0},
		{"a learner does not count", 4, func(s *seen) { s.facts.Live.Members[3].IsLearner = true },
			"3 of 3 members serve; one may be lost", 1},
		{"no quorum", 3, func(s *seen) { s.silent, s.facts.Live.Leader = s.facts.Live.Members[1:], 0 },
			"1 of 3 members answer, and 2 must: etcd serves nobody", -1},
		{"it does not serve, and nobody knows why", 3, func(s *seen) { s.facts.LiveError = errors.New("no") },
			"3 of 3 members answer, but etcd does not serve", 1},
	} {
		s := sized(t, c.voters)
		c.change(&s)
		if q := s.status().Quorum; q == nil || !strings.HasPrefix(q.Text, c.want) || q.MayLose != c.spare {
			t.Errorf("%s: %+v", c.name, q)
		}
	}
	s := healthy(t)
	s.facts.Live = nil
	if s.quorum() != nil {
		t.Error("an etcd that does not answer has a quorum")
	}
}

func TestTheNodesHaveTheQuorumThatIsSeenWorst(t *testing.T) {
	at := func(node, cluster string, serve int) NodeStatus {
		n := well(node)
		n.Status.Member, n.Status.Quorum = &MemberStatus{ClusterID: cluster}, &Quorum{Voters: 3, Serve: serve}
		return n
	}
	s := NodesStatus{Nodes: []NodeStatus{at("cp1", "a", 3), at("cp2", "a", 2), {Node: "cp3", Error: "gone"}}}
	if q := s.quorum(); q == nil || q.Serve != 2 {
		t.Errorf("%+v", q)
	}
	s.Nodes[1] = at("cp2", "b", 2)
	if q := s.quorum(); q != nil {
		t.Errorf("two clusters have one quorum: %+v", q)
	}
}

func TestWhatKillsFirstComesFirst(t *testing.T) {
	s := sized(t, 4) // an even number, too
	s.facts.Live.Alarms = []string{"NOSPACE of member 7", "CORRUPT of member 8"}
	s.agreement = &observe.Agreement{Differ: []string{"cp2"}}
	s.silent, s.hung = s.facts.Live.Members[3:], s.facts.Live.Members[3:]
	s.backups = nil
	s.data.room = map[string]uint64{"/var/lib/etcd": 1}
	s.facts.KubeletActive = false
	want := []string{"kubelet-stopped", "etcd-alarm", "members-differ", "etcd-alarm", "disk-full", "member-silent",
		"backup-missing"}
	st := s.status()
	if got := codesOf(st.Findings); !slices.Equal(got, want) || !strings.HasPrefix(st.Findings[1].Subject, "CORRUPT") {
		t.Errorf("%q", st.Warnings)
	}
	if len(st.Warnings) != len(st.Findings) || st.Warnings[1] != st.Findings[1].Text {
		t.Errorf("the sentences are in another order: %q", st.Warnings)
	}
	for i, command := range []string{"systemctl start kubelet", "etcdpod backup", "etcdpod backup", "etcdpod defrag",
		"du -xhd1", "etcdpod status"} {
		if i < len(st.Warnings) && !strings.Contains(st.Warnings[i], "`"+command+"`") {
			t.Errorf("what to do next, %s, is not in %q", command, st.Warnings[i])
		}
	}
	nodes := NodesStatus{Nodes: []NodeStatus{well("cp1"), well("cp2")}}
	nodes.Nodes[0].Status.Findings = one(finding.BackupOld, "", "old")
	nodes.Nodes[1].Status.Findings = one(finding.MembersDiffer, "", "differ")
	nodes.judge()
	if !slices.Equal(nodes.Warnings, []string{"cp2: differ", "cp1: old"}) ||
		!slices.Equal(codesOf(nodes.Findings), []string{"members-differ", "backup-old"}) {
		t.Errorf("%q", nodes.Warnings)
	}
}

func TestAMemberThatHangsIsToldFromOneThatIsDown(t *testing.T) {
	s := sized(t, 3)
	s.silent, s.hung = s.facts.Live.Members[2:], s.facts.Live.Members[2:]
	st := s.status()
	if !slices.Equal(codesOf(st.Findings), []string{"member-silent"}) ||
		!strings.Contains(st.Warnings[0], "member cp3 accepts connections") ||
		!strings.Contains(st.Next, "crictl stop") {
		t.Errorf("%q; next: %s", st.Warnings, st.Next)
	}
	s.silent = s.facts.Live.Members[1:] // cp2 is down
	if st := s.status(); !strings.Contains(st.Next, "start what does not answer: cp2, cp3") || len(st.Findings) != 2 {
		t.Errorf("%q; next: %s", st.Warnings, st.Next)
	}
}

func TestEtcdIsComparedWithABackupOnlyWhereTheirHashesAreComparable(t *testing.T) {
	live := &observe.Live{ClusterID: 9, Revision: 50, InUseBytes: 1 << 20}
	good := backup.Entry{Sidecar: backup.Sidecar{ClusterID: "9", Revision: 50, HashKV: 7}}
	if !mayCompare(good, live) {
		t.Error("one that is comparable is not compared")
	}
	for name, change := range map[string]func(*backup.Entry, *observe.Live){
		"of another cluster":          func(b *backup.Entry, _ *observe.Live) { b.ClusterID = "8" },
		"of a later revision":         func(b *backup.Entry, _ *observe.Live) { b.Revision = 51 },
		"without a hash":              func(b *backup.Entry, _ *observe.Live) { b.HashKV = 0 },
		"of data that lacked a piece": func(b *backup.Entry, _ *observe.Live) { b.Caveats = []string{"x"} },
		"much data":                   func(_ *backup.Entry, l *observe.Live) { l.InUseBytes = 1 << 30 },
	} {
		b, l := good, *live
		change(&b, &l)
		if mayCompare(b, &l) {
			t.Errorf("%s: it is compared", name)
		}
	}
	s := healthy(t)
	s.changed = &changedSince{backup: backup.Entry{Sidecar: backup.Sidecar{Path: "/b/x.db", Revision: 50, HashKV: 7}},
		now: 8}
	st := s.status()
	if !slices.Equal(codesOf(st.Findings), []string{"etcd-changed"}) ||
		!strings.Contains(st.Warnings[0], "its HashKV was 00000007, and is 00000008. Run `etcdpod verify /b/x.db`") ||
		!strings.Contains(st.Next, "etcdpod verify /b/x.db") {
		t.Errorf("%q; next: %s", st.Warnings, st.Next)
	}
}

func TestAMemberTellsWithHowManyItWasCompared(t *testing.T) {
	s := sized(t, 3)
	if s.status().Member.Compared != nil {
		t.Error("one that was not compared was")
	}
	s.agreement = &observe.Agreement{Compared: 2, Hash: etcd.Hash{Hash: 10, Revision: 40, CompactRevision: 30},
		Unasked: []string{"cp3: it has not compacted"}}
	c := s.status().Member.Compared
	if c == nil || c.HashKV != "0000000a" || c.HashRevision != 40 || c.CompactRevision != 30 || c.Members != 2 ||
		len(c.NotCompared) != 1 {
		t.Errorf("%+v", c)
	}
	if len(s.status().Findings) > 0 {
		t.Errorf("that one was restarted is said to be wrong: %q", s.status().Warnings)
	}
}
