package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licenceName is what a file with terms of use is called, or one that must go with them.
var licenceName = regexp.MustCompile(`(?i)^((?:un)?licen[cs]e|copying|copyright|notice|patents)([.-].*)?$`)

// linked is a package that is in the binary.
type linked struct {
	Dir      string
	Standard bool
	Module   *struct{ Path, Version, Dir string }
}

// licences writes the terms of all code in the binary that is not etcdpod's own, and returns the
// path of that file. Code without terms must not be handed out: it is an error.
func (r *release) licences(ctx context.Context, arch string) (string, error) {
	packages, err := r.linked(ctx, arch)
	if err != nil {
		return "", err
	}
	root, err := r.goTool(ctx, arch, "env", "GOROOT")
	if err != nil {
		return "", err
	}
	goroot := strings.TrimSpace(string(root))
	users := map[string]map[string]bool{} // modules, by text
	found := map[string]bool{}            // modules that have terms
	collect := func(name, dir string) error {
		texts, err := termsIn(dir)
		for _, text := range texts {
			if users[text] == nil {
				users[text] = map[string]bool{}
			}
			users[text][name], found[name] = true, true
		}
		return err
	}
	if err := collect("the Go standard library", goroot); err != nil {
		return "", err
	}
	modules := map[string]bool{"the Go standard library": true}
	for _, p := range packages {
		if p.Standard || p.Module.Version == "" { // the version is that of a module elsewhere
			continue
		}
		name := p.Module.Path + " " + p.Module.Version
		modules[name] = true
		// A package taken from elsewhere brings its own terms beside it, or above.
		for dir := p.Dir; strings.HasPrefix(dir, p.Module.Dir); dir = filepath.Dir(dir) {
			if err := collect(name, dir); err != nil {
				return "", err
			}
		}
	}
	for name := range modules {
		if !found[name] {
			return "", fmt.Errorf("%s has no licence: it cannot be in a release", name)
		}
	}
	file := filepath.Join(r.work, arch, "THIRD_PARTY_LICENSES")
	return file, os.WriteFile(file, []byte(terms(users)), 0o644)
}

// linked returns the packages that are in the binary for an architecture.
func (r *release) linked(ctx context.Context, arch string) ([]linked, error) {
	list, err := r.goTool(ctx, arch, "list", "-deps", "-json=Dir,Standard,Module", "./cmd/etcdpod")
	if err != nil {
		return nil, err
	}
	var all []linked
	for d := json.NewDecoder(bytes.NewReader(list)); ; {
		var p linked
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

// termsIn returns the texts of a directory that are terms.
func termsIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenceName.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		texts = append(texts, strings.TrimSpace(string(text)))
	}
	return texts, nil
}

// terms writes each text once, after the modules that it is for.
func terms(users map[string]map[string]bool) string {
	var sections []string
	for text, names := range users {
		sections = append(sections, strings.Join(slices.Sorted(maps.Keys(names)), "\n")+"\n\n"+text+"\n")
	}
	slices.Sort(sections)
	return "etcdpod contains code of others, under these terms.\n\n" +
		strings.Join(sections, "\n"+strings.Repeat("-", 78)+"\n\n")
}
