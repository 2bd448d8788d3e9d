package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// TestDocsHaveEveryWarning compares docs/warnings.md with the table of findings. With -update it
// writes the file, so that renaming a code that programs read shows up in the diff.
func TestDocsHaveEveryWarning(t *testing.T) {
	golden(t, filepath.Join("..", "..", "docs", "warnings.md"), warningsPage())
}

func warningsPage() string {
	var b strings.Builder
	b.WriteString("# Warnings\n\nMade from the program by `make docs`.\n\n" +
		"Every warning has a stable code, so that a program need not read the sentence. In JSON, `warnings`\n" +
		"has the sentences, and `findings` has the same warnings in the same order, each with its `code`,\n" +
		"`severity`, `node`, `subject` (the file, member, address or flag it is about) and `text`. An event\n" +
		"with the state `note` that is a warning has them, too. A certificate or a listed backup only has\n" +
		"the `code` of what is wrong with it. In a plan, each phase has its own findings; the plan of several\n" +
		"nodes also has those of all nodes, next to `notes`. In `status --nodes`, a warning that several\n" +
		"nodes share appears once, with a finding for each node.\n\n" +
		"A code keeps its meaning, and is never reused. New codes may be added, and sentences may change:\n" +
		"see [json.md](json.md).\n\n" +
		"| severity | it means |\n|---|---|\n" +
		"| critical | something does not serve, or data is lost or may be lost by the next failure |\n" +
		"| warning | it works now, and somebody should look at it |\n" +
		"| info | nothing is wrong now: it is so by how the node was set up |\n")
	for _, g := range engine.Findings() {
		fmt.Fprintf(&b, "\n## Warnings %s\n\n| code | severity | it means | what to do |\n|---|---|---|---|\n", g.About)
		for _, k := range g.Kinds {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Code, k.Severity, k.Meaning, k.Do)
		}
	}
	return b.String()
}

// A code that is not in the table has no severity and no help; one that nothing uses is no code.
func TestEveryCodeIsInTheTableAndIsUsed(t *testing.T) {
	declared, used := codesInTheCode(t)
	rows := map[string]int{}
	for _, g := range engine.Findings() {
		for _, k := range g.Kinds {
			rows[string(k.Code)]++
			if k.Severity == "" || k.Meaning == "" || k.Do == "" {
				t.Errorf("the row of %s has a gap", k.Code)
			}
		}
	}
	if len(declared) < 50 || len(declared) != len(rows) {
		t.Errorf("%d codes are declared, and %d have a row", len(declared), len(rows))
	}
	for name, code := range declared {
		if rows[code] != 1 {
			t.Errorf("%s (%s) has %d rows", name, code, rows[code])
		}
		if !slices.Contains(used, name) {
			t.Errorf("nothing finds %s", name)
		}
	}
}

// codesInTheCode returns the constants of package finding with their codes, and the names that
// other packages take from it, but for tests.
func codesInTheCode(t *testing.T) (declared map[string]string, used []string) {
	t.Helper()
	declared = map[string]string{}
	err := filepath.WalkDir(filepath.Join("..", "..", "phases"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if in, ok := n.X.(*ast.Ident); ok && in.Name == "finding" {
					used = append(used, n.Sel.Name)
				}
			case *ast.ValueSpec:
				if typ, ok := n.Type.(*ast.Ident); ok && f.Name.Name == "finding" && typ.Name == "Code" {
					declared[n.Names[0].Name] = strings.Trim(n.Values[0].(*ast.BasicLit).Value, `"`)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return declared, used
}
