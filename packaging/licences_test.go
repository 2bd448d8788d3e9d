package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestTermsAreFoundByTheirNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"LICENSE", "LICENCE.md", "Copying", "NOTICE.txt", "PATENTS",
		"LICENSE-MIT", "UNLICENSE",
		"license.go", "licenses_test.txt", "README.md", "copyrights"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "LICENSE.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := termsIn(dir)
	want := []string{"Copying", "LICENCE.md", "LICENSE", "LICENSE-MIT", "NOTICE.txt", "PATENTS", "UNLICENSE"}
	if slices.Sort(got); err != nil || !slices.Equal(got, want) {
		t.Errorf("found %q (%v), and not %q", got, err, want)
	}
}

func TestTermsAreWrittenOnceForAllThatTheyAreFor(t *testing.T) {
	got := terms(map[string]map[string]bool{"B": {"z v1": true, "a v1": true}, "A": {"m v1": true}})
	want := "etcdpod contains code of others, under these terms.\n\na v1\nz v1\n\nB\n\n" +
		"------------------------------------------------------------------------------\n\nm v1\n\nA\n"
	if got != want {
		t.Errorf("wrote\n%s", got)
	}
}

// A module without terms is made here: none that etcdpod uses is without.
func TestCodeWithoutTermsIsInNoRelease(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/one\ngo 1.26\n" +
			"require example.com/two v0.0.0\nreplace example.com/two => ./two\n",
		"cmd/etcdpod/main.go": "package main\nimport _ \"example.com/two\"\nfunc main() {}\n",
		"two/go.mod":          "module example.com/two\ngo 1.26\n",
		"two/two.go":          "package two\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := release{root: dir, work: t.TempDir()}
	if err := os.Mkdir(filepath.Join(r.work, "amd64"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := r.licences(t.Context(), "amd64"); err == nil ||
		err.Error() != "example.com/two v0.0.0 has no licence: it cannot be in a release" {
		t.Errorf("it was allowed, or refused with %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "two", "LICENSE"), []byte("As you like."), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.licences(t.Context(), "amd64"); err != nil {
		t.Error(err)
	}
}
