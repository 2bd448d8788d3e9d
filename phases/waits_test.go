package phases_test

import (
	"go/ast"
	"strings"
	"testing"
)

// watching are operations that wait for a program, and the field that tells them which container to
// watch, or how long the kubelet lets it start.
var watching = map[string]string{
	"AwaitAnswer": "Watched", "AwaitPeer": "Watched", "AwaitAPIServer": "Watched", "AwaitServed": "Watched",
	"VerifyRestored": "Watched", "PromoteLearner": "Watched", "AwaitServing": "Watched",
	"RestartPod": "Start", "AwaitReplaced": "Start", "Before": "Start",
}

// A wait that fails says why the container ended, and whether the kubelet killed it: in each
// workflow that there is, and in those to come.
func TestEveryWaitIsPlannedWithTheContainerThatItWaitsFor(t *testing.T) {
	planned := map[string]int{}
	for name, f := range goFiles(t) {
		if !strings.HasPrefix(name, "phases/") || strings.Contains(name, "/internal/") ||
			strings.HasSuffix(name, "_test.go") {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			made, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			of, ok := made.Type.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			field := watching[of.Sel.Name]
			if from, ok := of.X.(*ast.Ident); !ok || from.Name != "op" || field == "" {
				return true
			}
			planned[of.Sel.Name]++
			for _, e := range made.Elts {
				if set, ok := e.(*ast.KeyValueExpr); ok {
					if key, ok := set.Key.(*ast.Ident); ok && key.Name == field {
						return true
					}
				}
			}
			t.Errorf("%s plans op.%s without %s", name, of.Sel.Name, field)
			return true
		})
	}
	for what := range watching {
		if planned[what] == 0 {
			t.Errorf("no workflow plans op.%s", what)
		}
	}
}
