package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/rehearse"
	"github.com/etcdpod/etcdpod/phases/status"
)

// isQuiet says whether only what a script uses goes to standard output, and only what is wrong to
// standard error. What is typed outranks a variable.
func (s *session) isQuiet(c *cli.Context) bool { return c.Bool("quiet") && !s.line.typed["verbose"] }

// quietDisplay shows warnings alone: how it ends is told by the result, or by the error.
type quietDisplay struct{ to io.Writer }

func (d quietDisplay) event(e engine.Event) {
	if e.State == engine.Noted && e.Code != "" {
		f := engine.Finding{Severity: e.Severity, Node: e.Node, Text: e.Message}
		if e.Together {
			f = ofSeveral(f)
		}
		warn(d.to, f)
	}
}

// say tells of an interrupt, which a person typed.
func (d quietDisplay) say(text string) { fmt.Fprintln(d.to, text) }

func (quietDisplay) close() {}

// warn writes a finding, unless it only says how the node was set up.
func warn(to io.Writer, f engine.Finding) {
	if f.Severity != "info" {
		fmt.Fprintf(to, "etcdpod: %s: %s\n", f.Severity, visible(f.Text))
	}
}

// ofSeveral has a finding say which of several nodes it is on.
func ofSeveral(f engine.Finding) engine.Finding {
	if f.Node != "" && !strings.HasPrefix(f.Text, f.Node) {
		f.Text = f.Node + ": " + f.Text
	}
	return f
}

// quietly returns the lines of a result that a script uses.
func quietly(result any) []string {
	switch r := result.(type) {
	case outcome:
		return quietly(r.Result)
	case backup.Result:
		return r.Where()
	case backup.Fetched:
		return []string{r.Path}
	case []backup.Entry:
		return each(r, func(e backup.Entry) string { return e.Path })
	case []engine.RunSummary:
		return each(r, func(r engine.RunSummary) string { return r.ID })
	case certs.Requests:
		return r.Requests
	case *apiserver.Report:
		return each(r.Servers, func(e apiserver.EndpointReport) string { return e.URL })
	case *apiserver.NodesReport:
		var all []string
		for _, n := range r.Nodes {
			if n.Report != nil {
				all = append(all, quietly(n.Report)...)
			}
		}
		slices.Sort(all)
		return slices.Compact(all)
	case *members.Listing:
		return each(r.Members, func(e members.Entry) string { return e.ID })
	case *rehearse.Report:
		return []string{r.Path}
	case build:
		return []string{r.Version}
	}
	return nil
}

// wrongIn returns what a result says is wrong.
func wrongIn(result any) []engine.Finding {
	switch r := result.(type) {
	case outcome:
		return r.Findings
	case *status.Status:
		return r.Findings
	case *status.NodesStatus:
		return each(r.Findings, ofSeveral)
	case *certs.Report:
		return r.Findings
	case *apiserver.Report:
		return r.Findings
	case *apiserver.NodesReport:
		var all []engine.Finding
		for _, n := range r.Nodes {
			if n.Report == nil {
				all = append(all, engine.Finding{Severity: "critical", Node: n.Node, Text: n.Error})
				continue
			}
			for _, f := range n.Report.Findings {
				f.Node = n.Node
				all = append(all, f)
			}
		}
		return each(all, ofSeveral)
	case *members.Listing:
		return r.Findings
	case *backup.Verdict:
		return r.Findings
	case backup.TargetReport:
		var all []engine.Finding
		for _, step := range r.Steps {
			if !step.OK {
				all = append(all, engine.Finding{Severity: "critical", Text: step.Why})
			}
		}
		return all
	case *rehearse.Report:
		return r.Findings
	}
	return nil
}

func each[T, U any](all []T, of func(T) U) (made []U) {
	for _, one := range all {
		made = append(made, of(one))
	}
	return made
}

// resultQuietly writes a result for --quiet.
func (s *session) resultQuietly(value any) error {
	for _, wrong := range wrongIn(value) {
		warn(s.stderr, wrong)
	}
	lines := each(quietly(value), visible)
	if len(lines) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(s.stdout, strings.Join(lines, "\n")); err != nil {
		return fmt.Errorf("cannot write the result: %w", err)
	}
	return nil
}
