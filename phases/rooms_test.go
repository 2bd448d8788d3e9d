package phases_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/etcdpod/etcdpod/"

// rooms maps each package to the packages it imports, each by the last element of its path.
type rooms map[string][]string

// reaches says whether from imports to, directly or through other rooms.
func (r rooms) reaches(from, to string) bool {
	return slices.ContainsFunc(r[from], func(next string) bool { return next == to || r.reaches(next, to) })
}

// cycle returns a room that imports itself through others; empty when there is none.
func (r rooms) cycle() string {
	state := map[string]int{}
	var within func(string) string
	within = func(room string) string {
		switch state[room] {
		case 1:
			return room
		case 2:
			return ""
		}
		state[room] = 1
		for _, next := range r[room] {
			if found := within(next); found != "" {
				return found
			}
		}
		state[room] = 2
		return ""
	}
	for _, room := range slices.Sorted(maps.Keys(r)) {
		if found := within(room); found != "" {
			return found
		}
	}
	return ""
}

// direct leaves out the imports that can also be reached through another import.
func (r rooms) direct() rooms {
	all := rooms{}
	for room, imports := range r {
		all[room] = slices.DeleteFunc(slices.Clone(imports), func(to string) bool {
			return slices.ContainsFunc(imports, func(over string) bool { return over != to && r.reaches(over, to) })
		})
	}
	return all
}

// sameRooms reports each arrow that only one side has.
func sameRooms(t *testing.T, is, says rooms, undrawn, unbacked string) {
	t.Helper()
	for _, room := range slices.Sorted(maps.Keys(is)) {
		for _, to := range is[room] {
			if !slices.Contains(says[room], to) {
				t.Errorf(undrawn, room, to)
			}
		}
	}
	for _, room := range slices.Sorted(maps.Keys(says)) {
		for _, to := range says[room] {
			if !slices.Contains(is[room], to) {
				t.Errorf(unbacked, room, to)
			}
		}
	}
}

// goFiles returns the files of the product and of its tests, by their names below the module's
// root.
func goFiles(t *testing.T) map[string]*ast.File {
	t.Helper()
	all, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var parsed = sync.OnceValues(func() (map[string]*ast.File, error) {
	all, files := map[string]*ast.File{}, token.NewFileSet()
	for _, top := range []string{"cmd", "phases", "manifests", "templates", "pki", "units"} {
		err := filepath.WalkDir(filepath.Join("..", top), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(name) != ".go" {
				return err
			}
			f, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
			all[strings.TrimPrefix(filepath.ToSlash(name), "../")] = f
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
})

// roomOf is the room of a package of this module: everything below `cmd` is one room, and a
// package's test helpers belong to that package.
func roomOf(dir string) string {
	if top, _, _ := strings.Cut(dir, "/"); top == "cmd" {
		return "cmd"
	}
	return dir
}

// built are the rooms as the code has them, by full path.
func built(t *testing.T) rooms {
	t.Helper()
	all := rooms{}
	for name, f := range goFiles(t) {
		room := roomOf(path.Dir(name))
		if strings.HasSuffix(name, "_test.go") || path.Base(room) == "nodetest" {
			continue
		}
		if _, there := all[room]; !there {
			all[room] = nil
		}
		for _, spec := range f.Imports {
			to, own := strings.CutPrefix(unquoted(t, spec.Path), module)
			if to = roomOf(to); own && to != room && !slices.Contains(all[room], to) {
				all[room] = append(all[room], to)
			}
		}
	}
	return all
}

func unquoted(t *testing.T, lit *ast.BasicLit) string {
	t.Helper()
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// short names rooms by the last elements of their paths, as the page does.
func (r rooms) short(t *testing.T) rooms {
	t.Helper()
	all := rooms{}
	for room, imports := range r {
		if _, twice := all[path.Base(room)]; twice {
			t.Fatalf("two rooms are called %s", path.Base(room))
		}
		all[path.Base(room)] = nil
		for _, to := range imports {
			all[path.Base(room)] = append(all[path.Base(room)], path.Base(to))
		}
	}
	return all
}

func architecture(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

var (
	row   = regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\|[^|]*\\|[^|]*\\|([^|]*)\\|$")
	arrow = regexp.MustCompile(`(?m)^ +([a-z &]+?) (?:-->|-\.->) ([a-z &]+)$`)
)

// tabled returns the rooms of the page's table, by full path, and what each imports.
func tabled(t *testing.T) (paths []string, imports rooms) {
	t.Helper()
	imports = rooms{}
	for _, found := range row.FindAllStringSubmatch(architecture(t), -1) {
		paths = append(paths, found[1])
		imports[path.Base(found[1])] = strings.FieldsFunc(found[2], func(r rune) bool { return r == ',' || r == ' ' })
	}
	return paths, imports
}

// drawn are the arrows of the page's drawing.
func drawn(t *testing.T) rooms {
	t.Helper()
	all := rooms{}
	_, drawing, _ := strings.Cut(architecture(t), "flowchart TD\n")
	drawing, _, _ = strings.Cut(drawing, "```")
	for line := range strings.Lines(drawing) {
		found := arrow.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if found == nil {
			t.Fatalf("the drawing has a line that is no arrow: %q", line)
		}
		for from := range strings.SplitSeq(found[1], " & ") {
			for to := range strings.SplitSeq(found[2], " & ") {
				if slices.Contains(all[from], to) {
					t.Errorf("%s --> %s is drawn twice", from, to)
				}
				all[from] = append(all[from], to)
			}
		}
	}
	return all
}

// anyWorkflow is the row for workflows' rooms that need none of their own.
const anyWorkflow = "workflow"

// plainWorkflows takes the rooms of workflows that have no row out of the code's rooms: for them
// one row says what they may import, and nothing is drawn.
func plainWorkflows(t *testing.T, is rooms, paths []string, may []string) {
	t.Helper()
	for _, name := range workflowRooms(t) {
		room := "phases/" + name
		if slices.Contains(paths, room) {
			continue
		}
		for _, to := range is[room] {
			if !slices.Contains(may, path.Base(to)) {
				t.Errorf("%s imports %s: give it a row in docs/architecture.md, or do without", room, to)
			}
		}
		delete(is, room)
		is["cmd"] = slices.DeleteFunc(is["cmd"], func(to string) bool { return to == room })
	}
}

func TestTheRoomsAreAsTheArchitectureSays(t *testing.T) {
	is := built(t)
	paths, says := tabled(t)
	if !slices.Contains(paths, anyWorkflow) {
		t.Fatalf("docs/architecture.md has no row for %s", anyWorkflow)
	}
	plainWorkflows(t, is, paths, says[path.Base(anyWorkflow)])
	paths = slices.DeleteFunc(paths, func(room string) bool { return room == anyWorkflow })
	delete(says, path.Base(anyWorkflow))
	for _, room := range slices.Sorted(maps.Keys(is)) {
		if !slices.Contains(paths, room) {
			t.Errorf("docs/architecture.md has no row for %s", room)
		}
	}
	for _, room := range paths {
		if _, there := is[room]; !there {
			t.Errorf("docs/architecture.md has a row for %s, which is not there", room)
		}
	}
	code := is.short(t)
	sameRooms(t, code, says, "%s imports %s, and its row in docs/architecture.md does not say so",
		"the row of %s in docs/architecture.md says that it imports %s, and it does not")
	if room := code.cycle(); room != "" {
		t.Fatalf("%s imports itself over others", room)
	}
	sameRooms(t, code.direct(), drawn(t), "%s imports %s, and docs/architecture.md draws no way there",
		"docs/architecture.md draws %s --> %s, which no import backs, or which another way says already")
}

// workflowRooms are all rooms directly below phases but those that carry out, look and report: a
// new one is a workflow's without being listed.
func workflowRooms(t *testing.T) (names []string) {
	t.Helper()
	others := []string{"engine", "observe", "together", "status"}
	for room := range built(t) {
		if name := path.Base(room); path.Dir(room) == "phases" && !slices.Contains(others, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func TestWhoCarriesRunsOutKnowsNoWorkflow(t *testing.T) {
	code := built(t).short(t)
	for _, room := range []string{"engine", "together", "observe", "op", "journal", "node", "bind", "etcd"} {
		for _, workflow := range append(workflowRooms(t), "status", "phases") {
			if code.reaches(room, workflow) {
				t.Errorf("%s knows %s", room, workflow)
			}
		}
	}
}

func TestWorkflowsImportEachOtherInOneOrder(t *testing.T) {
	may := rooms{"apiserver": {"certs"}, "members": {"apiserver", "certs"}, "restore": {"backup"},
		"rehearse": {"backup"},
		"defrag":   {"members"}, "upgrade": {"members", "backup", "certs"}}
	code := built(t).short(t)
	for _, room := range workflowRooms(t) {
		for _, to := range code[room] {
			if slices.Contains(append(workflowRooms(t), "status"), to) && !slices.Contains(may[room], to) {
				t.Errorf("%s imports the workflow %s", room, to)
			}
		}
	}
}

func TestWhatIsForTestsIsNotShipped(t *testing.T) {
	for room, imports := range built(t) {
		for _, to := range imports {
			if to == "phases/internal/sim" && room != "phases/internal/crashtest" || to == "phases/internal/crashtest" {
				t.Errorf("%s imports %s", room, to)
			}
		}
	}
}

// changes returns what in package node can change the host: FS and Host, functions that take or
// make one, and the methods of FS.
func changes(t *testing.T, all map[string]*ast.File) (names, methods []string) {
	t.Helper()
	names = []string{"FS", "Host", "Run", "Service", "CRI", "Proc"}
	for name, f := range all {
		if path.Dir(name) != "phases/internal/node" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && fn.Recv == nil && fn.Name.IsExported() && mentions(fn.Type, "FS", "Host") {
				names = append(names, fn.Name.Name)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != "FS" {
				return true
			}
			for _, m := range spec.Type.(*ast.InterfaceType).Methods.List {
				for _, name := range m.Names {
					methods = append(methods, name.Name)
				}
			}
			return false
		})
	}
	if len(names) < 10 || len(methods) < 8 {
		t.Fatalf("only %q and %q were found", names, methods)
	}
	return names, methods
}

// changing returns where a package mentions anything that can change the host.
func changing(all map[string]*ast.File, room string, names, methods []string) (found []string) {
	for name, f := range all {
		if path.Dir(name) != room || strings.HasSuffix(name, "_test.go") {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			switch in := sel.X.(type) {
			case *ast.Ident:
				if in.Name == "node" && slices.Contains(names, sel.Sel.Name) {
					found = append(found, "node."+sel.Sel.Name)
				}
			case *ast.SelectorExpr:
				if in.Sel.Name == "FS" && slices.Contains(methods, sel.Sel.Name) {
					found = append(found, "FS."+sel.Sel.Name)
				}
			}
			return true
		})
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func TestOnlyOperationsChangeTheHost(t *testing.T) {
	all := goFiles(t)
	names, methods := changes(t, all)
	// docs/architecture.md explains two of these; backup reads a file that belongs to no node.
	may := map[string][]string{"prune": {"node.FS", "node.RemoveTree"}, "backup": {"node.OS"},
		"restore": {"node.Receive", "node.WriteAtomic"}}
	for _, room := range append(workflowRooms(t), "observe", "together", "status") {
		for _, found := range changing(all, "phases/"+room, names, methods) {
			if !slices.Contains(may[room], found) {
				t.Errorf("phases/%s can change the host by %s", room, found)
			}
		}
	}
	for name, f := range all {
		if path.Dir(name) != "phases/observe" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			in, ok := sel.X.(*ast.Ident)
			if ok && in.Name == "engine" && slices.Contains([]string{"Node", "Parts", "Run"}, sel.Sel.Name) {
				t.Errorf("%s mentions engine.%s, which holds a host", name, sel.Sel.Name)
			}
			return true
		})
	}
}

func mentions(in ast.Node, names ...string) (found bool) {
	ast.Inspect(in, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		found = found || ok && slices.Contains(names, id.Name)
		return true
	})
	return found
}

// The table of contents is the indented lines of phases/doc.go; the text below it names the
// commands that only look.
func TestTheTableOfContentsHasEveryWorkflow(t *testing.T) {
	var is []string
	exported := map[string]bool{}
	for name, f := range goFiles(t) {
		room := path.Base(path.Dir(name))
		if path.Dir(name) != "phases/"+room || strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !fn.Name.IsExported() {
				continue
			}
			exported[room+"."+fn.Name.Name] = true
			if results := fn.Type.Results; results != nil && makesWorkflow(results.List[0].Type) {
				is = append(is, room+"."+fn.Name.Name)
			}
		}
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var says []string
	word := regexp.MustCompile(`\b[a-z]+\.[A-Z]\w*`)
	for line := range strings.Lines(string(doc)) {
		for _, name := range word.FindAllString(line, -1) {
			if !exported[name] {
				t.Errorf("phases/doc.go names %s, which is not there", name)
			}
			if strings.HasPrefix(line, "//\t") {
				says = append(says, name)
			}
		}
	}
	slices.Sort(is)
	slices.Sort(says)
	if len(is) < 8 || !slices.Equal(is, says) {
		t.Errorf("the workflows are\n%q\nand the table of contents in phases/doc.go has\n%q", is, says)
	}
}

// makesWorkflow says whether a result is a workflow, on one node or on several.
func makesWorkflow(result ast.Expr) bool {
	if id, ok := result.(*ast.Ident); ok {
		return id.Name == "workflow" || strings.HasSuffix(id.Name, "Workflow")
	}
	sel, ok := result.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "Joint"
}
