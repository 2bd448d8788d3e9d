package status

import (
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// midRun is a node on which a run on several nodes is open.
func midRun(name, phase string, command ...string) NodeStatus {
	r := engine.RunSummary{ID: "r1", State: "open", Command: append([]string{"etcdpod"}, command...), Phase: phase,
		Operation: "stop the kubelet", Nodes: []string{"cp1", "cp2", "cp3"}}
	return NodeStatus{Node: name, Status: &Status{Node: name, OpenRun: &r, Kubelet: "stopped",
		Findings: append(one(finding.RunOpen, r.ID, "%s", openText(r)),
			finding.New(finding.BackupMissing, "/b", "there is no backup of this node in /b")),
		Next: (&engine.OpenRunError{Run: r}).Hint()}}
}

func well(name string) NodeStatus {
	return NodeStatus{Node: name, Status: &Status{Node: name, Kubelet: "running", Next: NothingToDo}}
}

func TestWhatIsWrongOnSeveralNodesIsSaidOnce(t *testing.T) {
	quorum := well("cp1")
	quorum.Status.Member, quorum.Status.Next = &MemberStatus{NoQuorum: true}, "start one of cp2, cp3"
	quorum.Status.Findings = one(finding.EtcdNoQuorum, "", "etcd has no quorum")
	stale, stale2 := well("cp1"), well("cp2")
	stale.Status.Findings, stale.Status.Next = one(finding.BackupMissing, "", "no backup"), "run `etcdpod backup`"
	stale2.Status.Findings, stale2.Status.Next = one(finding.BackupMissing, "", "no backup"), "run `etcdpod backup`"
	ofOne, ofAnother := well("cp1"), well("cp2")
	ofOne.Status.Member, ofAnother.Status.Member = &MemberStatus{ClusterID: "a"}, &MemberStatus{ClusterID: "b"}
	ofOne.Status.Findings, ofOne.Status.Next = stale.Status.Findings, stale.Status.Next
	gone := NodeStatus{Node: "cp3", Error: "cp3 cannot be reached: no route", Hint: "start cp3"}
	silent := well("cp1")
	silent.Status.Findings = one(finding.MemberSilent, "cp3", "member cp3 does not answer at https://cp3:2380")
	silent.Status.Next = "start what does not answer: cp3"
	alone := well("cp2")
	alone.Status.OpenRun = &engine.RunSummary{ID: "r2", State: "open", Command: []string{"etcdpod", "restore", "x"}}
	alone.Status.Findings = one(finding.RunOpen, "r2", "%s", openText(*alone.Status.OpenRun))
	alone.Status.Next = "run `etcdpod resume`"
	for name, c := range map[string]struct {
		nodes    []NodeStatus
		warnings []string // a part of each
		next     string   // a part
	}{
		"all is well": {[]NodeStatus{well("cp1"), well("cp2")}, nil, NothingToDo},
		"a run on all, which another node was told of as it was typed": {
			[]NodeStatus{midRun("cp2", "fence", "agent"), midRun("cp1", "fence", "restore", "x"),
				midRun("cp3", "fence")},
			[]string{"run r1 (etcdpod restore x) is open: it stopped in fence on cp2, cp1, cp3",
				"cp2, cp1, cp3: there is no backup"}, "on all nodes (cp1, cp2, cp3)"},
		"a run that stands differently, and a node that is gone": {
			[]NodeStatus{midRun("cp1", "fence", "restore", "x"), midRun("cp2", "exchange-data"), gone},
			[]string{"it stopped in exchange-data on cp2; fence on cp1", "cp3 cannot be reached",
				"cp1, cp2: there is no"},
			"on all nodes (cp1, cp2, cp3)"},
		"a run of one node alone": {[]NodeStatus{well("cp1"), alone},
			[]string{"cp2: run r2 (etcdpod restore x) is open"}, "on cp2: run `etcdpod resume`"},
		"no quorum": {[]NodeStatus{quorum, gone}, []string{"cp3 cannot be reached", "cp1: etcd has no quorum"},
			"on cp1: start one of"},
		"one is gone": {[]NodeStatus{stale, well("cp2"), gone}, []string{"cp3 cannot", "cp1: no backup"}, "start cp3"},
		"one is gone, and so is its member": {[]NodeStatus{silent, well("cp2"), gone},
			[]string{"cp3 cannot", "cp1: member cp3 does not answer"},
			"start cp3; if it is gone for good, run `etcdpod remove cp3`, then join another node: " +
				"/usr/share/doc/etcdpod/docs/runbooks/one-node-lost.md"},
		"of two clusters": {[]NodeStatus{ofOne, ofAnother}, []string{"2 different clusters", "cp1: no backup"},
			"which cluster each node belongs to"},
		"the same on two": {[]NodeStatus{stale, stale2, well("cp3")}, []string{"cp1, cp2: no backup"},
			"on cp1, cp2: run `etcdpod backup`"},
	} {
		t.Run(name, func(t *testing.T) {
			s := NodesStatus{Nodes: c.nodes}
			s.judge()
			fits := slices.EqualFunc(s.Warnings, c.warnings, strings.Contains)
			if !fits || !strings.Contains(s.Next, c.next) {
				t.Errorf("it says %q, and next %q", s.Warnings, s.Next)
			}
		})
	}
}
