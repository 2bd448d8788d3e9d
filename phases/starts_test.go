package phases_test

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// Operations that stop what runs, by what they are called in package op.
var stopping = []string{"StopKubelet", "TakeOutManifest", "RestartPod", "ReplaceManifest"}

// Before anything is stopped: could it start again, and is it known which files run, and what those
// take from elsewhere?
var asked = []string{"CheckStarts", "CheckManifests"}

// A workflow that stops what runs asks first: the workflows that there are, and those to come.
func TestEveryWorkflowThatStopsSomethingAsksFirstWhetherItCouldStartAgain(t *testing.T) {
	stops, asks := map[string]string{}, map[string][]string{}
	for name, f := range goFiles(t) {
		room := path.Dir(name)
		if !strings.HasPrefix(room, "phases/") || strings.Contains(room, "/internal/") ||
			strings.HasSuffix(name, "_test.go") {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if from, ok := s.X.(*ast.Ident); ok && from.Name == "op" && slices.Contains(stopping, s.Sel.Name) {
				stops[room] = s.Sel.Name
			}
			asks[room] = append(asks[room], s.Sel.Name)
			return true
		})
	}
	if len(stops) < 3 {
		t.Errorf("only these stop something: %v", stops)
	}
	for room, what := range stops {
		for _, check := range asked {
			if !slices.Contains(asks[room], check) {
				t.Errorf("%s plans op.%s, and no check of its preflight calls %s", room, what, check)
			}
		}
	}
}
