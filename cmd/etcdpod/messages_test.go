package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestDocsListEveryMessage writes all that the program can say to people into one file, so that
// it can be read at one sitting, as a stranger would, and a new message shows up in the diff.
func TestDocsListEveryMessage(t *testing.T) {
	golden(t, filepath.Join("..", "..", "docs", "messages.txt"), messages(t))
}

// messages lists the texts of all packages that the binary is built from, each package's in the
// order of its files.
func messages(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("All that etcdpod can say, made from its source by `make docs`, by package. Before each text " +
		"stands what\nit is for: error, hint, and so on, or the function or field that it is given to. %s and … " +
		"stand for what\nis only known when it is said.\n")
	packages := map[string][]*ast.File{}
	follow(t, "cmd/etcdpod", packages)
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		var lines []string
		for _, file := range packages[dir] {
			for _, m := range messagesOf(file) {
				if line := fmt.Sprintf("%-11s %s", m.kind, m.text); !slices.Contains(lines, line) {
					lines = append(lines, line)
				}
			}
		}
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\n%s\n\n%s\n", dir, strings.Join(lines, "\n"))
		}
	}
	return b.String()
}

// follow reads a package's files, and those of the packages of this module that it imports.
func follow(t *testing.T, dir string, packages map[string][]*ast.File) {
	t.Helper()
	if packages[dir] != nil {
		return
	}
	names, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var imports []string
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		packages[dir] = append(packages[dir], file)
		for _, i := range file.Imports {
			if below, ours := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), "github.com/etcdpod/etcdpod/"); ours {
				imports = append(imports, below)
			}
		}
	}
	for _, i := range imports {
		follow(t, i, packages)
	}
}

// message is one text of the program, and what it is for.
type message struct{ kind, text string }

// aMessage is what tells a text for people from a name or a format: two words side by side.
var aMessage = regexp.MustCompile("(?i)[a-z%…)'\"`,;:.-] +[`\"'(]?(%|…|[a-z-]{2,}|a\\b)")

// messagesOf finds the texts of one file. A text that is put together with + is one text.
func messagesOf(file *ast.File) []message {
	var found []message
	var above []ast.Node
	ast.Inspect(file, func(n ast.Node) bool {
		if n == nil {
			above = above[:len(above)-1]
			return true
		}
		above = append(above, n)
		switch n := n.(type) {
		case *ast.ImportSpec:
			above = above[:len(above)-1]
			return false
		case *ast.Field: // its tag
			n.Tag = nil
		case *ast.BasicLit, *ast.BinaryExpr:
			if _, part := above[max(0, len(above)-2)].(*ast.BinaryExpr); part {
				return true // of a text that was found, or of a comparison
			}
			text, ok := textOf(n.(ast.Expr))
			kind := purpose(above)
			if ok && kind != "" && aMessage.MatchString(text) && !strings.HasPrefix(text, "#") {
				found = append(found, message{kind, indented(text)})
			}
		}
		return true
	})
	return found
}

// indented puts the lines of a text below one another.
func indented(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		if lines[i] = strings.TrimRight(lines[i], " \t"); i > 0 && lines[i] != "" {
			lines[i] = strings.Repeat(" ", 12) + lines[i]
		}
	}
	return strings.Join(lines, "\n")
}

// textOf puts the literals of an expression together, with … for all else. It says whether there
// is a literal.
func textOf(e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.ParenExpr:
		return textOf(e.X)
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		left, isLeft := textOf(e.X)
		right, isRight := textOf(e.Y)
		return left + right, isLeft || isRight
	}
	return "…", false
}

// purpose says what the last of the nodes is for, by what it is a part of; empty: not for people.
func purpose(above []ast.Node) string {
	for i := len(above) - 2; i >= 0; i-- {
		switch n := above[i].(type) {
		case *ast.KeyValueExpr:
			key, ok := n.Key.(*ast.Ident)
			switch {
			case ok && (key.Name == "Name" || key.Name == "Aliases"):
				return ""
			case ok:
				return strings.ToLower(key.Name)
			}
		case *ast.CallExpr:
			argument := slices.IndexFunc(n.Args, func(e ast.Expr) bool { return e == above[i+1] })
			kind, decided := given(calledName(n), argument)
			if decided {
				return kind
			}
		case *ast.FuncLit, *ast.BlockStmt:
			return "text"
		}
	}
	return "text"
}

// given says what a text is for that is given to a function, unless that is what the function's
// result is for.
func given(function string, argument int) (kind string, decided bool) {
	switch function {
	case "Errorf":
		return "error", true
	case "New": // of errors, or of findings
		return []string{"error", "", "warn"}[min(argument, 2)], true
	case "Refuse":
		return []string{"hint", "refused"}[min(argument, 1)], true
	case "WithHint":
		return "hint", true
	case "Fprintf", "Fprintln", "Fprint", "WriteString":
		return "output", true
	case "Contains", "HasPrefix", "Fields", "TrimSuffix": // what others say
		return "", true
	case "", "Sprintf", "Sprint", "append", "Join", "string":
		return "", false
	}
	return strings.ToLower(function), true
}

func calledName(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

func TestMessagesAreFoundWithWhatTheyAreFor(t *testing.T) {
	const source = `package p

import "fmt"

type t struct{ A int ` + "`json:\"two words\"`" + ` }

func f(n string) any {
	if n == "as others say it" || strings.Contains(n, "what others say") {
		return errors.New("cannot " + n + ": " +
			"why not")
	}
	e := engine.Refuse("do " + "this", "cannot do %s", n)
	f := finding.New(finding.Odd, "name", "%s is odd", n)
	w(fmt.Sprintf("of %d things", 1), "name", t{Hint: "try it: " + fmt.Sprintf("with care, %s", n)})
	fmt.Fprintf(w, "one\n\n%s two\n", n)
	return x{Name: "certs check", Usage: "look at certificates"}
}`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	want := []message{
		{"error", "cannot …: why not"}, {"hint", "do this"}, {"refused", "cannot do %s"}, {"warn", "%s is odd"},
		{"w", "of %d things"},
		{"hint", "try it: …"}, {"hint", "with care, %s"}, {"output", "one\n\n            %s two"},
		{"usage", "look at certificates"},
	}
	if got := messagesOf(file); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
