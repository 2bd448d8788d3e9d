package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProgressIsALineOnATerminalAndLinesElsewhere(t *testing.T) {
	said := []string{"go: downloading example.org/a v1.0.0", "internal/abi", "example.org/a/b"}
	for name, want := range map[string]string{
		"terminal": "\r\x1b[Kfetching modules: 1, 0s\r\x1b[Kcompiling: package 1 of 2, 0s" +
			"\r\x1b[Kcompiling: package 2 of 2, 0s\r\x1b[Kcompiled 2 packages in 0s\n",
		"file": "fetching modules: 1, 0s\ncompiled 2 packages in 0s\n",
	} {
		var to strings.Builder
		p := &progress{to: &to, terminal: name == "terminal", begun: time.Now(), packages: 2}
		for _, line := range said {
			if !p.compiles(line) {
				t.Errorf("%q is not known", line)
			}
		}
		p.end()
		if to.String() != want {
			t.Errorf("%s: it says %q, and not %q", name, to.String(), want)
		}
	}
}

func TestWhatGoComplainsOfIsNoProgress(t *testing.T) {
	p := &progress{to: &strings.Builder{}}
	for _, line := range []string{"# example.org/a", "a.go:1:2: undefined: x", "go: no such module"} {
		if p.compiles(line) {
			t.Errorf("%q is taken for a package", line)
		}
	}
}

func TestPackagesAreCompiledAndErrorsShown(t *testing.T) {
	module := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(module, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module example.org/hello\n")
	// A text that was never compiled before.
	write("main.go", "package main // in "+module+"\n\nfunc main() { println(\"hello\") }\n")
	t.Chdir(module)
	var to strings.Builder
	p := &progress{to: &to, begun: time.Now()}
	if err := p.build(context.Background(), "bin/", "", []string{"."}); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("bin/hello").CombinedOutput(); err != nil || string(out) != "hello\n" {
		t.Errorf("what was built says %q, %v", out, err)
	}
	if p.packages < 5 || p.number < 1 || !strings.Contains(to.String(), "compiled ") {
		t.Errorf("of %d packages %d were compiled, and said was %q", p.packages, p.number, to.String())
	}
	write("main.go", "package main\n\nfunc main() { undefined() }\n")
	err := p.build(context.Background(), "bin/", "", []string{"."})
	if err == nil || !strings.Contains(err.Error(), "undefined: undefined") {
		t.Errorf("a program that does not compile: %v", err)
	}
}
