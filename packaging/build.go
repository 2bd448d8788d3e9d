package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
)

// build is one binary, with everything that is handed out together with it.
type build struct {
	arch   string // as Go calls it
	binary string // its path
	files  []file
}

// file is one file of the archive and of the packages.
type file struct {
	source  string // its path
	archive string // in the archive; "": not there
	system  string // on a system; "": not there
	mode    os.FileMode
}

// architectures are those that a release is made for.
func architectures() []string { return []string{"amd64", "arm64"} }

// builds makes the binaries, and from the one that runs here the manual and the completions.
func (r *release) builds(ctx context.Context) ([]build, error) {
	var all []build
	for _, arch := range architectures() {
		b := build{arch: arch, binary: filepath.Join(r.work, arch, "etcdpod")}
		_, err := r.goTool(ctx, arch, "build", "-trimpath", "-buildvcs=false", "-ldflags", fmt.Sprintf(
			"-s -w -buildid= -X main.version=%s -X main.commit=%s", r.version.described, r.commit),
			"-o", b.binary, "./cmd/etcdpod")
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	here := slices.IndexFunc(all, func(b build) bool { return b.arch == runtime.GOARCH })
	if here < 0 || runtime.GOOS != "linux" {
		return nil, fmt.Errorf("releases are made on Linux, on one of %v", architectures())
	}
	spoken, err := r.spoken(ctx, all[here].binary)
	if err != nil {
		return nil, err
	}
	pages, err := pagesIn(r.root)
	if err != nil {
		return nil, err
	}
	for i := range all {
		licences, err := r.licences(ctx, all[i].arch)
		if err != nil {
			return nil, err
		}
		all[i].files = append([]file{
			{all[i].binary, "etcdpod", "/usr/bin/etcdpod", 0o755},
			{filepath.Join(r.root, "LICENSE"), "LICENSE", path.Join(docDir, "copyright"), 0o644},
			{licences, "THIRD_PARTY_LICENSES", path.Join(docDir, "THIRD_PARTY_LICENSES"), 0o644},
		}, slices.Concat(spoken, pages)...)
	}
	return all, nil
}

// docDir is where packages put what is to be read. The program's hints name pages there.
const docDir = "/usr/share/doc/etcdpod"

// pagesIn are the pages of a source tree, with their pictures, the JSON schemas and the alerts: all
// that is in docs but for tests and recordings. They lie as in the tree, so that links between them
// hold.
func pagesIn(root string) (all []file, err error) {
	names := []string{"CHANGELOG.md", "CONTRIBUTING.md", "README.md", "README.zh-CN.md"}
	err = fs.WalkDir(os.DirFS(root), "docs", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "testdata":
			return fs.SkipDir
		case slices.Contains([]string{".md", ".txt", ".svg"}, path.Ext(name)),
			slices.Contains([]string{"docs/schema", "docs/alerts"}, path.Dir(name)):
			names = append(names, name)
		}
		return nil
	})
	for _, name := range names {
		all = append(all, file{filepath.Join(root, name), name, path.Join(docDir, name), 0o644})
	}
	// On a system there is a copyright, too, but the README links to this.
	all = append(all, file{source: filepath.Join(root, "LICENSE"), system: path.Join(docDir, "LICENSE"), mode: 0o644})
	return all, err
}

// spoken has the program write its manual and its completions.
func (r *release) spoken(ctx context.Context, binary string) ([]file, error) {
	man := filepath.Join(r.work, "man")
	if err := os.Mkdir(man, 0o755); err != nil {
		return nil, err
	}
	if _, err := output(exec.CommandContext(ctx, binary, "__man", man)); err != nil {
		return nil, err
	}
	pages, err := os.ReadDir(man)
	if err != nil {
		return nil, err
	}
	var all []file
	for _, page := range pages {
		plain := filepath.Join(man, page.Name())
		zipped, err := zip(plain)
		if err != nil {
			return nil, err
		}
		all = append(all, file{source: plain, archive: path.Join("man", page.Name()), mode: 0o644},
			file{source: zipped, system: path.Join("/usr/share/man/man8", page.Name()+".gz"), mode: 0o644})
	}
	for _, c := range [][3]string{
		{"bash", "etcdpod.bash", "/usr/share/bash-completion/completions/etcdpod"},
		{"zsh", "_etcdpod", "/usr/share/zsh/vendor-completions/_etcdpod"},
		{"fish", "etcdpod.fish", "/usr/share/fish/vendor_completions.d/etcdpod.fish"},
	} {
		script, err := output(exec.CommandContext(ctx, binary, "completion", c[0]))
		if err != nil {
			return nil, err
		}
		source := filepath.Join(r.work, c[1])
		if err := os.WriteFile(source, script, 0o644); err != nil {
			return nil, err
		}
		all = append(all, file{source, path.Join("completions", c[1]), c[2], 0o644})
	}
	return all, nil
}

// zip compresses a file, without its name and time.
func zip(plain string) (zipped string, err error) {
	data, err := os.ReadFile(plain)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(data); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return plain + ".gz", os.WriteFile(plain+".gz", b.Bytes(), 0o644)
}

// goTool runs the go command in the source tree, for an architecture, with nothing in its
// environment that would change what it builds.
func (r *release) goTool(ctx context.Context, arch string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = r.root
	cmd.Env = append(environment(), "GOARCH="+arch)
	return output(cmd)
}

// environment returns this process's, with what would change what Go builds set.
func environment() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH,
		"GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off", "GOWORK=off")
}

func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, stderr.Bytes())
	}
	return stdout.Bytes(), nil
}
