package main

import (
	"io"
	"path/filepath"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/upgrade"
)

// looksAhead is a plan with something of everything.
func looksAhead() upgrade.Report {
	absent, here := false, true
	old := []upgrade.FlagChange{{Kind: "deprecated", Given: "--experimental-initial-corrupt-check=true",
		Becomes: "--feature-gates=InitialCorruptCheck=true"}}
	gone := append([]upgrade.FlagChange{{Kind: "unknown", Given: "--enable-v2=false", Stops: true}}, old...)
	found := func(weight upgrade.Weight, node, text, next string) upgrade.Finding {
		return upgrade.Finding{Finding: engine.Finding{Node: node, Text: text}, Weight: weight, Next: next}
	}
	const renamed = "--experimental-initial-corrupt-check=true is taken by etcd 3.6 for the last time; its new name " +
		"is " +
		"--feature-gates=InitialCorruptCheck=true"
	bad := upgrade.Plan{To: "3.6.16", Verdict: upgrade.NotWell,
		Sentence: "This will not end well, because cp2: its data call cp1 a learner, which is a voter, and for one " +
			"more " +
			"reason.",
		Members: []upgrade.Member{
			{ID: "1", Name: "cp1", Role: "voter", Node: "cp1", Version: "3.5.35", Gate: "passed", Present: &here,
				Flags: old},
			{ID: "2", Name: "cp2", Role: "voter", Version: "3.5.26", Gate: "advised", Flags: gone},
			{ID: "3", Name: "cp3", Role: "leader", Node: "cp3", Version: "3.5.35", Gate: "passed", Present: &absent,
				Flags: old},
		},
		Findings: []upgrade.Finding{
			found(upgrade.Blocks, "cp2", "its data call cp1 a learner, which is a voter", "restart etcd on the node "+
				"of cp1"),
			found(upgrade.Blocks, "cp2", "etcd 3.6 does not know --enable-v2=false, and exits at once",
				"remove it from "+
					"/etc/kubernetes/manifests/etcd.yaml first, if etcd can do without it"),
			found(upgrade.Doubts, "", "nobody has looked at the data, the flags and the disk of cp3",
				"name all of them: "+
					"`etcdpod upgrade plan --nodes cp1,cp2,cp3`"),
			found(upgrade.Notes, "cp1", renamed, "nothing now"), found(upgrade.Notes, "cp3", renamed, "nothing now"),
		},
		Next: "restart etcd on the node of cp1"}
	well := upgrade.Plan{To: "3.5.35", Verdict: upgrade.Well, Sentence: "This will end well.",
		Members: []upgrade.Member{{ID: "2", Name: "cp2", Role: "voter", Node: "cp2", Version: "3.5.26",
			Present: &here}},
		Next: "take a backup with `etcdpod backup`"}
	return upgrade.Report{Plans: []upgrade.Plan{well, bad}, Next: well.Next}
}

func TestAPlanOfAnUpgradeReadsWell(t *testing.T) {
	for name, r := range map[string]upgrade.Report{
		"upgrade": looksAhead(), "upgrade-one": {Plans: looksAhead().Plans[1:], Next: looksAhead().Plans[1].Next},
		"upgrade-done": {Plans: []upgrade.Plan{{To: "3.7.3", Verdict: upgrade.Nothing,
			Sentence: "There is nothing to do: all members run etcd 3.7.3.", Members: []upgrade.Member{
				{ID: "1", Name: "cp1", Role: "leader", Node: "cp1", Version: "3.7.3"}}}}, Next: "nothing to do"},
	} {
		b := page{width: 100}
		writeUpgrade(&b, r)
		golden(t, filepath.Join("testdata", "text-"+name+".golden"), b.String())
	}
	writeUpgrade(io.Discard, upgrade.Report{}) // of nothing nothing is told
}
