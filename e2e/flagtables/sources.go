package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// gateLine is how the help of --feature-gates describes one (etcd, pkg/featuregate:
// KnownFeatures).
var gateLine = regexp.MustCompile(`^(\w+)=true\|false \(\w+ - default=(true|false)\)$`)

// gatesIn reads the help of --feature-gates. AllAlpha and AllBeta stand for others, and are known
// wherever there are gates.
func gatesIn(help []string) ([]gate, error) {
	gates := []gate{}
	for _, line := range help {
		found := gateLine.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		gates = append(gates, gate{Name: found[1], Default: found[2] == "true"})
	}
	if len(help) > 0 && len(gates) == 0 {
		return nil, fmt.Errorf("its help of --feature-gates lists none: %q", help)
	}
	return gates, nil
}

// migrations reads the two maps with which etcd takes the names of the release before.
func migrations(ctx context.Context, version string) (renamed, gated map[string]string, err error) {
	if renamed, err = mapIn(ctx, version, "embed", "config.go", "experimentalFlagMigrationMap"); err != nil {
		return nil, nil, err
	}
	gated, err = mapIn(ctx, version, "features", "etcd_features.go", "ExperimentalFlagToFeatureMap")
	return renamed, gated, err
}

// mapIn reads a map of strings, or of constants that are strings, from a file of etcd's.
func mapIn(ctx context.Context, version, pkg, file, name string) (map[string]string, error) {
	dir, err := binaries.EtcdSource(ctx, version, pkg)
	if err != nil {
		return nil, err
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, file), nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("cannot read its sources: %w", err)
	}
	values, literal := map[string]string{}, (*ast.CompositeLit)(nil)
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 {
			return true
		}
		if text, ok := stringOf(spec.Values[0], nil); ok {
			values[spec.Names[0].Name] = text
		}
		if lit, ok := spec.Values[0].(*ast.CompositeLit); ok && spec.Names[0].Name == name {
			literal = lit
		}
		return true
	})
	if literal == nil {
		return nil, fmt.Errorf("%s has no %s any more", file, name)
	}
	all := map[string]string{}
	for _, e := range literal.Elts {
		pair, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return nil, fmt.Errorf("%s in %s is no map", name, file)
		}
		key, isKey := stringOf(pair.Key, values)
		value, isValue := stringOf(pair.Value, values)
		if !isKey || !isValue {
			return nil, fmt.Errorf("%s in %s has an entry that is no string", name, file)
		}
		all[key] = value
	}
	return all, nil
}

// stringOf is the value of a literal, or of one of the constants.
func stringOf(e ast.Expr, constants map[string]string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.Ident:
		text, ok := constants[e.Name]
		return text, ok
	}
	return "", false
}

const prefix = "experimental-"

// prefixes adds what lost the prefix in a release that took both names without a map.
func (t *tables) prefixes() error {
	names := map[string]bool{}
	for _, r := range t.Releases {
		for _, raw := range r.Flags {
			var f struct{ Name string }
			if err := json.Unmarshal(raw, &f); err != nil {
				return err
			}
			names[f.Name] = true
		}
	}
	for name := range names {
		without, experimental := strings.CutPrefix(name, prefix)
		if experimental && names[without] && t.Gated[name] == "" {
			t.Renamed[name] = without
		}
	}
	if len(t.Renamed) == 0 || len(t.Gated) == 0 {
		return errors.New("nothing was renamed, or nothing became a gate: the sources are not as they were")
	}
	return nil
}

// text has a line for each flag, so that a change shows as one.
func (t *tables) text() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("{\n  \"releases\": [\n")
	for i, r := range t.Releases {
		fmt.Fprintf(&b, "    {\"minor\": %q, \"version\": %q, \"flags\": [\n", r.Minor, r.Version)
		for j, f := range r.Flags {
			fmt.Fprintf(&b, "      %s%s\n", f, comma(j, len(r.Flags)))
		}
		b.WriteString("    ], \"gates\": [\n")
		for j, g := range r.Gates {
			fmt.Fprintf(&b, "      {\"name\": %q, \"default\": %t}%s\n", g.Name, g.Default, comma(j, len(r.Gates)))
		}
		fmt.Fprintf(&b, "    ]}%s\n", comma(i, len(t.Releases)))
	}
	b.WriteString("  ],\n")
	for i, m := range []struct {
		name string
		all  map[string]string
	}{{"renamed", t.Renamed}, {"gated", t.Gated}} {
		text, err := json.MarshalIndent(m.all, "  ", "  ") // sorted
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "  %q: %s%s\n", m.name, text, comma(i, 2))
	}
	b.WriteString("}\n")
	if !json.Valid(b.Bytes()) {
		return nil, errors.New("what was made is no JSON")
	}
	return b.Bytes(), nil
}

func comma(i, n int) string {
	if i == n-1 {
		return ""
	}
	return ","
}
