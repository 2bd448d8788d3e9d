package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/schema"
	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/rehearse"
	"github.com/etcdpod/etcdpod/phases/status"
)

// Empty values of every output, and of what is in them, hold: a list that nothing was put into is
// written as one.
func TestNoListIsNull(t *testing.T) {
	for name, value := range map[string]any{
		"status": &status.Status{Manifests: []status.ManifestStatus{{}}, NewestBackup: &backup.Entry{},
			OpenRun: &engine.RunSummary{}},
		"status-nodes":     &status.NodesStatus{Nodes: []status.NodeStatus{{}, {Status: &status.Status{}}}},
		"backups":          []backup.Entry{{}},
		"rehearse":         &rehearse.Report{},
		"backup":           outcome{Result: backup.Sidecar{}},
		"run":              outcome{Result: engine.RunSummary{State: "damaged"}},
		"runs":             []engine.RunSummary(nil),
		"runs-show-follow": outcome{Result: engine.RunReport{}},
		"plan":             &engine.Plan{},
		"plan-nodes": &engine.TogetherPlan{Nodes: []engine.NodePlan{
			{Plan: engine.Plan{Phases: []engine.PlannedPhase{{}}}},
		}},
	} {
		text, err := json.Marshal(withLists(value))
		if err != nil || strings.Contains(string(text), "null") {
			t.Errorf("%s is written as %s (%v)", name, text, err)
		}
		// What has one of a few values has none of them here.
		if err := schema.Hold(name, string(text)); err != nil && !strings.Contains(err.Error(), "must be one of") {
			t.Error(err)
		}
	}
	plain, err := json.Marshal(&engine.Plan{})
	if err != nil || !strings.Contains(string(plain), `"phases":null`) {
		t.Fatalf("without it a plan is written as %s: this test shows nothing", plain)
	}
}
