package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/status"
	"github.com/etcdpod/etcdpod/phases/together"
)

func memberOn(name, id string, leader bool) status.NodeStatus {
	return status.NodeStatus{Node: name, HashKV: "3c963fa6", Status: &status.Status{
		Node: name, Kubelet: "running", Runtime: "ok", Certificates: []certs.Status{{DaysLeft: 364}},
		Member: &status.MemberStatus{ID: id, Name: name, Version: "3.6.16", Leader: leader, Revision: 1000081240,
			SizeBytes: 40 << 20, InUseBytes: 22 << 20},
	}}
}

// Three nodes are told of so that a narrow terminal holds them, too.
func TestSeveralNodesReadWellAtEveryWidth(t *testing.T) {
	three := func() []status.NodeStatus {
		return []status.NodeStatus{memberOn("cp1", "22d3ed0821f9969a", true),
			memberOn("cp2", "13577d2f7df4e0b", false), memberOn("cp3", "9050378c567ae8e", false)}
	}
	open := engine.RunSummary{ID: "20260801T020000Z-restore-ab12", State: "open", Phase: "exchange-data"}
	midRun := three()
	for _, n := range midRun {
		n.Status.Member, n.Status.Kubelet, n.Status.OpenRun = nil, "stopped", &open
	}
	removed := three() // the member of the last
	removed[2] = status.NodeStatus{Node: "cp3", Status: &status.Status{Node: "cp3", Kubelet: "running"}}
	noQuorum := three()
	noQuorum[0].Status.Member.NoQuorum, noQuorum[0].Status.Problem = true, "etcd did not answer"
	noQuorum[1], noQuorum[2] = status.NodeStatus{Node: "cp2"}, status.NodeStatus{Node: "cp3"}
	for name, st := range map[string]status.NodesStatus{
		"well": {Nodes: three(), Next: "nothing to do",
			Quorum: &status.Quorum{Text: "3 of 3 members serve; one may be lost"}},
		"removed": {Nodes: removed, Next: "run `kubeadm reset` on cp3"},
		"run": {Nodes: midRun, Next: "run `etcdpod resume` to finish it on all nodes", Warnings: []string{
			"run 20260801T020000Z-restore-ab12 (etcdpod restore cp1.db) is open: it stopped in exchange-data on " +
				"cp1, cp2, cp3"}},
		"quorum": {Nodes: noQuorum, Next: "start one of cp2, cp3", Warnings: []string{"cp2 cannot be reached",
			"cp3 cannot be reached", "cp1: etcd has no quorum"}},
	} {
		for _, width := range []int{0, 80, 40} {
			var b bytes.Buffer
			writeNodes(&b, st, width)
			golden(t, filepath.Join("testdata", fmt.Sprintf("text-nodes-%s-%d.golden", name, width)), b.String())
			_, shown, _ := strings.Cut(b.String(), "\n\n")
			shown, _, _ = strings.Cut(shown, "\nNext")
			for _, line := range strings.Split(shown, "\n") {
				if n := len([]rune(line)); width > 0 && n > width {
					t.Errorf("%s, %d columns: %d letters: %q", name, width, n, line)
				}
			}
		}
	}
}

func TestTheMovingLinesOfSeveralNodesFitTheTerminal(t *testing.T) {
	for _, columns := range []uint16{200, 80, 40} {
		tty := newTerminal(t, columns)
		show := newMany(tty.program, false, false)
		for i, node := range []string{"cp1", "cp2", "control-plane-with-a-long-name.example.org"} {
			show.event(engine.Event{Time: time.Now(), Run: "r", Node: node, Together: true, Phase: "stage-data",
				Operation: "stage the data in /var/lib/etcdpod/runs/20260801T020000Z-restore-ab12/data",
				State:     engine.Progressed, Done: int64(i) << 28, Total: 1 << 30})
		}
		tty.waitForTimes(t, 4, "cp2") // drawn this many times
		show.close()
		for _, line := range strings.Split(escapes.ReplaceAllString(tty.all(t), ""), "\n") {
			if n := len([]rune(strings.Trim(line, "\r"))); n > int(columns) {
				t.Errorf("%d columns: %d letters: %q", columns, n, line)
			}
		}
	}
}

func TestTheStateOfANodeIsWordsAndNoError(t *testing.T) {
	for kubelet, want := range map[string]string{
		"running": "etcd does not answer", "stopped": "kubelet stopped; etcd does not answer",
		"cannot determine whether the kubelet runs: systemctl is-active kubelet: exit status 1": "kubelet unknown; " +
			"etcd does not answer",
	} {
		if got := stateText(&status.Status{Kubelet: kubelet, Problem: "connection refused"}); got != want {
			t.Errorf("%s: %s", kubelet, got)
		}
	}
	unusable := &status.Status{Kubelet: "running", Manifests: []status.ManifestStatus{{Problem: "no pod"}}}
	if got := stateText(unusable); got != "etcd was not queried" {
		t.Errorf("where etcd's manifest cannot be used: %s", got)
	}
}

func TestTheEndOfARunSaysWhoseAPIServerWasDown(t *testing.T) {
	own := engine.RunSummary{APIAwaySeconds: 1.2}
	for want, run := range map[string]ended{
		"; the API server was down for 1.2s":        {RunSummary: own},
		"; the API server on cp3 was down for 2.0s": {outages: []together.Outage{{Node: "cp3", Seconds: 2}}},
		"; the API servers were down for 1.2s on cp1, 2.0s on cp2 and 3.0s on cp3": {RunSummary: own,
			outages: []together.Outage{{Node: "cp1", Seconds: 1.2}, {Node: "cp2", Seconds: 2},
				{Node: "cp3", Seconds: 3}}},
		"": {},
	} {
		if got := run.outage(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
