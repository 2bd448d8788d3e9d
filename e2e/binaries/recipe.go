package binaries

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recipe says how one program is built.
type recipe struct {
	Name    string // of the module directory: what it builds, and its version
	Program string // the file name of the result
	Package string // the main package
	Source  []byte // of the main package, where it is of one file in the module itself
	Copied  string // a package whose files join that one; empty: it stands alone
	LDFlags string
	Require func(ctx context.Context, dir string) error // writes the requirements into dir's go.mod
}

// build returns the path of the recipe's program. One process builds at a time in each module; the
// others wait, and find its result.
func build(ctx context.Context, r recipe) (string, error) {
	cache, err := Cache()
	if err != nil {
		return "", fmt.Errorf("cannot build %s: %w", r.Program, err)
	}
	dir := filepath.Join(cache, "build", r.Name)
	path := filepath.Join(dir, "bin", r.Program)
	if there(path) {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("cannot build %s: %w", r.Program, err)
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", fmt.Errorf("cannot build %s: %w", r.Program, err)
	}
	defer unlock()
	if there(path) { // built by whoever held the lock
		return path, nil
	}
	if err := r.make(ctx, dir, path); err != nil {
		return "", fmt.Errorf("cannot build %s of %s: %w", r.Program, r.Name, err)
	}
	return path, nil
}

// make builds into a temporary name first: a file at path is always a whole program.
func (r recipe) make(ctx context.Context, dir, path string) error {
	start := time.Now()
	fmt.Fprintf(os.Stderr, "building %s of %s (once; kept in %s)\n", r.Program, r.Name, dir)
	if err := r.module(ctx, dir); err != nil {
		return err
	}
	if err := r.writeSource(ctx, dir); err != nil {
		return err
	}
	temp := filepath.Join(filepath.Dir(path), "."+r.Program)
	// Nobody debugs them, and a fifth of the time would go into what a debugger reads. Traces of
	// panics need none of it.
	if err := run(ctx, dir, "go", "build", "-trimpath", "-gcflags=all=-dwarf=false",
		"-ldflags", "-s -w "+r.LDFlags, "-o", temp, r.Package); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "built %s of %s in %s\n", r.Program, r.Name, time.Since(start).Round(time.Second))
	return nil
}

// writeSource makes the main package in dir, where that is not one of a dependency.
func (r recipe) writeSource(ctx context.Context, dir string) error {
	if r.Source == nil {
		return nil
	}
	to, name := filepath.Join(dir, r.Package), "main.go"
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if r.Copied != "" {
		name = "zz_main.go" // that package may have a main.go
		if err := copyPackage(ctx, dir, r.Copied, to); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(to, name), r.Source, 0o644)
}

var packageClause = regexp.MustCompile(`(?m)^package \w+`)

// copyPackage copies the files of a dependency into a package main.
func copyPackage(ctx context.Context, dir, pkg, to string) error {
	from, err := packageDir(ctx, dir, pkg)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(from, "*.go"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text = packageClause.ReplaceAll(text, []byte("package main"))
		if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// packageDir returns where the sources are of a package that the module in dir depends on.
func packageDir(ctx context.Context, dir, pkg string) (string, error) {
	out, err := output(ctx, dir, "go", "list", "-f", "{{.Dir}}", pkg)
	return strings.TrimSpace(string(out)), err
}

// module makes dir a module with the recipe's requirements. The mark is written last, so that a
// module left half made is made again.
func (r recipe) module(ctx context.Context, dir string) error {
	mark := filepath.Join(dir, "ready")
	if there(mark) {
		return nil
	}
	for _, old := range []string{"go.mod", "go.sum"} {
		if err := os.Remove(filepath.Join(dir, old)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := run(ctx, dir, "go", "mod", "init", "scratch"); err != nil {
		return err
	}
	if err := r.Require(ctx, dir); err != nil {
		return err
	}
	return os.WriteFile(mark, nil, 0o644)
}

func kubernetesLDFlags(version string) string {
	parts := strings.SplitN(version, ".", 3)
	flags := ""
	for _, v := range [][2]string{{"gitVersion", "v" + version}, {"gitMajor", parts[0]}, {"gitMinor", parts[1]}} {
		flags += fmt.Sprintf(" -X k8s.io/component-base/version.%s=%s", v[0], v[1])
	}
	return strings.TrimSpace(flags)
}

// requireKubernetes requires k8s.io/kubernetes. Its own go.mod replaces the staging modules with
// directories of its repository, which a module that depends on it does not see: here they are
// replaced by their releases, v0.X.Y for Kubernetes 1.X.Y.
func requireKubernetes(ctx context.Context, dir, version string) error {
	staging, err := stagingModules(ctx, dir, version)
	if err != nil {
		return err
	}
	edit := []string{"mod", "edit", "-require=k8s.io/kubernetes@v" + version}
	for _, m := range staging {
		edit = append(edit, fmt.Sprintf("-replace=%s=%s@v0%s", m, m, strings.TrimPrefix(version, "1")))
	}
	return run(ctx, dir, "go", edit...)
}

func stagingModules(ctx context.Context, dir, version string) ([]string, error) {
	out, err := output(ctx, dir, "go", "mod", "download", "-json", "k8s.io/kubernetes@v"+version)
	if err != nil {
		return nil, err
	}
	var downloaded struct{ GoMod string }
	if err := json.Unmarshal(out, &downloaded); err != nil {
		return nil, fmt.Errorf("cannot read what go mod download says: %w", err)
	}
	if out, err = output(ctx, dir, "go", "mod", "edit", "-json", downloaded.GoMod); err != nil {
		return nil, err
	}
	var mod struct {
		Replace []struct{ Old, New struct{ Path string } }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", downloaded.GoMod, err)
	}
	var names []string
	for _, r := range mod.Replace {
		if strings.HasPrefix(r.New.Path, "./staging/") {
			names = append(names, r.Old.Path)
		}
	}
	return names, nil
}

func run(ctx context.Context, dir, name string, args ...string) error {
	_, err := output(ctx, dir, name, args...)
	return err
}

// output runs a program and returns its standard output. Its standard error is
// shown only in the error.
func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// lock waits for an exclusive lock on a file, which the kernel drops with the
// process that holds it.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
		fmt.Fprintf(os.Stderr, "waiting for another process that builds in %s\n", filepath.Dir(path))
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
	} else if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
