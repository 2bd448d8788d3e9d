package main

import (
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// placed is what the pages' part of a package puts where: sources by destination.
func placed(t *testing.T, format string) map[string]string {
	t.Helper()
	pages, err := pagesIn("..")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, c := range contents(format, build{files: pages}) {
		all[c.Destination] = c.Source
	}
	return all
}

func TestThePackagesHaveTheSchemas(t *testing.T) {
	for _, format := range []string{"deb", "rpm"} {
		all := placed(t, format)
		for _, name := range []string{"status.json", "plan-nodes.json", "error.json"} {
			if !json.Valid(read(t, all[docDir+"/docs/schema/"+name])) {
				t.Errorf("the %s has no schema %s", format, name)
			}
		}
	}
}

func TestAnRPMOwnsTheDirectoriesOfItsPages(t *testing.T) {
	for _, format := range []string{"deb", "rpm"} {
		all := placed(t, format)
		for name, source := range all {
			if dir := path.Dir(name); source != "" && strings.HasPrefix(dir, docDir) {
				if _, owned := all[dir]; owned != (format == "rpm") {
					t.Errorf("the %s owns the directory %s: %v", format, dir, owned)
				}
			}
		}
	}
}

// A page that the program names, or another page links to, is on the node, where it is named.
func TestEveryPageThatIsNamedIsInThePackages(t *testing.T) {
	messages := string(read(t, "..", "docs", "messages.txt"))
	for _, format := range []string{"deb", "rpm"} {
		all := placed(t, format)
		named := inMessages(messages)
		if len(named) < 3 {
			t.Fatalf("the messages name %q only", named)
		}
		for _, name := range named {
			if all[name] == "" {
				t.Errorf("a message names %s, and the %s does not have it", name, format)
			}
		}
		for page, source := range all {
			if path.Ext(page) != ".md" {
				continue
			}
			for _, target := range links(page, string(read(t, source))) {
				if _, there := all[target]; !there && !hasBelow(all, target) {
					t.Errorf("%s links to %s, and the %s does not have it", page, target, format)
				}
			}
		}
	}
}

func TestAPageThatIsNotInThePackagesIsFound(t *testing.T) {
	for text, want := range map[string]string{
		"see docs/ssh.md there":                    "docs/ssh.md",
		"see /usr/share/doc/etcdpod/docs/ssh.md":   "/usr/share/doc/etcdpod/docs/ssh.md",
		"docs/runbooks/quorum-lost.md has it":      "docs/runbooks/quorum-lost.md",
		"README.md has it":                         "README.md",
		"without a page: etc.md5, /etc/docs/x.yml": "",
	} {
		if got := strings.Join(inMessages(text), " "); got != want {
			t.Errorf("%q names %q", text, got)
		}
	}
	found := links("/d/docs/a.md", "[x](b.md#y) [y](../README.md) [z](https://x/y.md) [w](#v)")
	if want := []string{"/d/docs/b.md", "/d/README.md"}; !slices.Equal(found, want) {
		t.Errorf("it links to %q", found)
	}
}

var (
	aPage = regexp.MustCompile(`[\w./-]+\.md\b`)
	aLink = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^):]*)?\)`)
)

// inMessages are the pages that a text names.
func inMessages(text string) (all []string) { return aPage.FindAllString(text, -1) }

// links are the files that a page links to.
func links(page, text string) (all []string) {
	for _, found := range aLink.FindAllStringSubmatch(text, -1) {
		all = append(all, path.Join(path.Dir(page), found[1]))
	}
	return all
}

func hasBelow(all map[string]string, dir string) bool {
	for name := range all {
		if strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}
