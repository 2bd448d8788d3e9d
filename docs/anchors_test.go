package docs_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

func TestEveryHeadingThatIsLinkedIsThere(t *testing.T) {
	all := pages(t)
	for name, page := range all {
		for _, wrong := range wrongAnchors(name, page, all) {
			t.Errorf("%s links to %s, which is no heading", name, wrong)
		}
	}
}

func TestALinkToNoHeadingIsFound(t *testing.T) {
	page := "# A\n\n## With an `etcd`, at *last*\n\n[a](#with-an-etcd-at-last) [b](b.md#b-2) [c](#c) [d](b.md#d)\n" +
		"[outside](https://example.org/x.md#x)\n"
	all := map[string]string{"docs/a.md": page, "docs/b.md": "## B 2\n"}
	if wrong := wrongAnchors("docs/a.md", page, all); !slices.Equal(wrong, []string{"#c", "b.md#d"}) {
		t.Errorf("found are %q", wrong)
	}
}

// wrongAnchors are the links of a page whose headings are not there.
func wrongAnchors(name, page string, all map[string]string) (wrong []string) {
	for _, link := range regexp.MustCompile(`\]\(([^)#:]*)#([^)]+)\)`).FindAllStringSubmatch(page, -1) {
		to := name
		if link[1] != "" {
			to = filepath.Join(filepath.Dir(name), link[1])
		}
		if other, found := all[to]; found && !slices.Contains(anchors(other), link[2]) {
			wrong = append(wrong, link[1]+"#"+link[2])
		}
	}
	return wrong
}

// anchors are the names that a page's headings get when it is shown.
func anchors(page string) (all []string) {
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, heading[1]))
	}
	return all
}
