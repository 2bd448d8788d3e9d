package binaries

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recipeOf returns a recipe that needs no network: a program of the standard library's only.
func recipeOf(t *testing.T, source string) recipe {
	t.Setenv("ETCDPOD_CACHE", t.TempDir())
	cache, err := Cache()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "build", "hello-1.0.0")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"main.go": source, "go.mod": "module scratch\n", "ready": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return recipe{Name: "hello-1.0.0", Program: "hello", Package: "."}
}

func TestAProgramThatIsThereIsNotBuiltAgain(t *testing.T) {
	r := recipeOf(t, "package main\n\nfunc main() {}\n")
	path, err := build(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := build(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Errorf("%s was built again", path)
	}
}

func TestABuildThatFailsLeavesNoProgramAndSaysWhy(t *testing.T) {
	r := recipeOf(t, "package main\n\nfunc main() { undefined() }\n")
	_, err := build(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "cannot build hello of hello-1.0.0") ||
		!strings.Contains(err.Error(), "undefined: undefined") {
		t.Errorf("error is %v", err)
	}
	cache, _ := Cache()
	if left, _ := os.ReadDir(filepath.Join(cache, "build", r.Name, "bin")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAProgramThatIsNotOfKubernetesIsRefused(t *testing.T) {
	if _, err := Kubernetes(t.Context(), "kubectl"); err == nil {
		t.Error("kubectl was accepted")
	}
}
