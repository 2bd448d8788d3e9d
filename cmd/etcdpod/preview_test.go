package main

import (
	"bytes"
	"flag"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// A plan that changes nothing must not be said to do something.
func TestAPreviewOfNothingSaysThatNothingIsToDo(t *testing.T) {
	const unchanged = "Nothing to do: it is so already."
	set := flag.NewFlagSet("", 0)
	set.Var(&choice{is: "text", of: []string{"text"}}, "output", "")
	c := cli.NewContext(nil, set, nil)
	c.Command = &cli.Command{Name: "readdress"}
	for says, found := range map[string]string{
		unchanged: "",
		"preflight            check everything first\n  it has these flags\n" + unchanged: "it has these flags",
	} {
		plan := engine.Plan{Phases: []engine.PlannedPhase{{Name: "preflight", Short: "check everything first"}}}
		if found != "" {
			plan.Phases[0].Found = []string{found}
		}
		var out bytes.Buffer
		s := &session{stdout: &out, stderr: &out, env: func(string) string { return "" }}
		if err := s.shown(c, plan, unchanged); err != nil || strings.TrimSpace(out.String()) != says {
			t.Errorf("it says %q, %v", out.String(), err)
		}
	}
}
