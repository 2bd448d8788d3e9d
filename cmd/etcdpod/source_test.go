package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// source is what the program's source says of its types: comments, and the constants of a type. The
// keys begin with the path of the package below the module.
type source struct {
	comments map[string]string   // by type, and by type and field
	values   map[string][]string // by type
}

func newSource(t *testing.T) source {
	t.Helper()
	s := source{comments: map[string]string{}, values: map[string][]string{}}
	for _, top := range []string{"cmd", "phases"} {
		err := filepath.WalkDir(filepath.Join("..", "..", top), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(name) != ".go" {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			in := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(name)), "../../")
			for _, d := range f.Decls {
				if d, ok := d.(*ast.GenDecl); ok {
					s.take(in, d)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s source) take(in string, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			s.takeType(in+"."+spec.Name.Name, spec, d)
		case *ast.ValueSpec:
			if typ, ok := spec.Type.(*ast.Ident); ok && d.Tok == token.CONST && len(spec.Values) == 1 {
				if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					value, _ := strconv.Unquote(lit.Value) // it compiles
					s.values[in+"."+typ.Name] = append(s.values[in+"."+typ.Name], value)
				}
			}
		}
	}
}

func (s source) takeType(key string, spec *ast.TypeSpec, d *ast.GenDecl) {
	doc := spec.Doc.Text() + d.Doc.Text()
	for _, verb := range []string{"is", "are"} {
		doc = strings.TrimPrefix(doc, spec.Name.Name+" "+verb+" ")
	}
	s.comments[key] = sentence(doc)
	structure, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range structure.Fields.List {
		for _, name := range f.Names {
			s.comments[key+"."+name.Name] = sentence(f.Doc.Text() + f.Comment.Text())
		}
	}
}

func key(typ reflect.Type) string {
	name, _, _ := strings.Cut(typ.Name(), "[")
	return strings.TrimPrefix(typ.PkgPath(), "github.com/etcdpod/etcdpod/") + "." + name
}

func (s source) about(typ reflect.Type) string { return s.comments[key(typ)] }

func (s source) aboutField(typ reflect.Type, field string) string {
	return s.comments[key(typ)+"."+field]
}

func (s source) constants(typ reflect.Type) []string { return s.values[key(typ)] }
