package main

import (
	"bytes"
	encoding "encoding/json"
	"flag"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/status"
)

// Who says yes beforehand sees no plan: what planning found is shown with the run, once, however
// that is shown.
func TestWhoSaysYesBeforehandIsToldWhatPlanningFound(t *testing.T) {
	plan := engine.Plan{Phases: []engine.PlannedPhase{{Name: "preflight", Findings: []engine.Finding{
		{Code: "kubeadm-setting", Severity: "warning", Text: "kubeadm restores its own setting"},
		{Code: "learner-left", Severity: "info", Text: "a learner was left"}}}}}
	for _, yes := range []bool{true, false} {
		set := flag.NewFlagSet("", 0)
		set.Bool("yes", yes, "")
		s := &session{}
		s.yesTo(cli.NewContext(nil, set, nil), warned(plan))
		if before := s.note(engine.Event{Node: "cp1", State: engine.Noted}); before != nil {
			t.Errorf("it is shown before the run begins: %v", before)
		}
		var text, json, quiet bytes.Buffer
		shown := s.note(engine.Event{Run: "a-run", Node: "cp1", State: engine.PhaseStarted})
		for _, e := range shown {
			newPlain(&text, false).event(e)
			(&jsonDisplay{to: encoding.NewEncoder(&json)}).event(e)
			quietDisplay{&quiet}.event(e)
		}
		again := s.note(engine.Event{Run: "a-run", Node: "cp1", State: engine.Started})
		if (len(shown) == 2) != yes || len(again) != 0 {
			t.Errorf("with --yes=%v: %v, and then %v", yes, shown, again)
		}
		for got, want := range map[string]string{
			text.String():  "note: kubeadm restores its own setting",
			quiet.String(): "etcdpod: warning: kubeadm restores",
			json.String(): `"run":"a-run","node":"cp1","state":"note","message":"kubeadm restores its own setting",` +
				`"code":"kubeadm-setting","severity":"warning"`,
		} {
			if strings.Contains(got, want) != yes || strings.Contains(quiet.String(), "learner") {
				t.Errorf("with --yes=%v: %q", yes, got)
			}
		}
	}
}

// Who is told only what is wrong is told where, if that may be on any of several nodes.
func TestQuietlyEachNodeIsNamed(t *testing.T) {
	no := engine.Finding{Severity: "warning", Node: "cp2", Text: "there is no backup"}
	gone := engine.Finding{Severity: "critical", Node: "cp3", Text: "cp3 cannot be reached"}
	for _, result := range []any{
		&status.NodesStatus{Findings: []engine.Finding{no, gone}},
		&apiserver.NodesReport{Nodes: []apiserver.NodeReport{{Node: "cp1", Report: &apiserver.Report{
			Servers: []apiserver.EndpointReport{{URL: "https://a"}}}},
			{Node: "cp2", Report: &apiserver.Report{Servers: []apiserver.EndpointReport{{URL: "https://a"}},
				Findings: []engine.Finding{{Severity: "warning", Text: "there is no backup"}}}},
			{Node: "cp3", Error: "cp3 cannot be reached"}}},
	} {
		var out, wrong bytes.Buffer
		s := &session{stdout: &out, stderr: &wrong}
		if err := s.resultQuietly(result); err != nil {
			t.Fatal(err)
		}
		const want = "etcdpod: warning: cp2: there is no backup\netcdpod: critical: cp3 cannot be reached\n"
		if _, ofServers := result.(*apiserver.NodesReport); wrong.String() != want ||
			(out.String() == "https://a\n") != ofServers {
			t.Errorf("%T is written as %q, and %q", result, out.String(), wrong.String())
		}
	}
	var event bytes.Buffer
	quietDisplay{&event}.event(engine.Event{Node: "cp2", State: engine.Noted, Severity: "warning", Code: "x",
		Message: "there is no backup", Together: true})
	if event.String() != "etcdpod: warning: cp2: there is no backup\n" {
		t.Errorf("an event is written as %q", event.String())
	}
}
