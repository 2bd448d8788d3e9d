package docs_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The Chinese README says what the English one says: the same headings, commands, flags, files and
// figures, in the same sections.
func TestTheChineseReadmeSaysTheSame(t *testing.T) {
	english, err := os.ReadFile("../README.md")
	must(t, err)
	chinese, err := os.ReadFile("../README.zh-CN.md")
	must(t, err)
	for _, differs := range translated(string(english), string(chinese)) {
		t.Error(differs)
	}
}

func TestWhatATranslationLacksIsFound(t *testing.T) {
	const page = "# A\n\nRun `x --flag`, 4.30 s, see [b](docs/b.md).\n\n    make demo    # it runs\n\n## B\n"
	if differs := translated(page, strings.NewReplacer("Run", "执行", "it runs", "运行").Replace(page)); differs != nil {
		t.Errorf("a good translation: %q", differs)
	}
	for old, bad := range map[string]string{
		"--flag": "--flags", "4.30": "4.3", "docs/b.md": "docs/c.md", "make demo": "make test", "## B": "### B",
		"\n## B\n": "",
	} {
		if differs := translated(page, strings.Replace(page, old, bad, 1)); differs == nil {
			t.Errorf("%q instead of %q is not found", bad, old)
		}
	}
}

var (
	codeBlock = regexp.MustCompile("(?ms)^```.*?^```$|^    [^\n]*$")
	remark    = regexp.MustCompile(`\s+# .*$`) // behind a command
	codeSpan  = regexp.MustCompile("`[^`]+`")
	target    = regexp.MustCompile(`\]\(([^)]+)\)`)
	figure    = regexp.MustCompile(`\d+(?:\.\d+)*`)
	ownNames  = strings.NewReplacer("README.zh-CN.md", "README", "README.md", "README")
)

// translated is what differs between a page and its translation.
func translated(page, other string) (differs []string) {
	sections := [2][]string{strings.Split(page, "\n#"), strings.Split(other, "\n#")}
	if len(sections[0]) != len(sections[1]) {
		return []string{fmt.Sprintf("there are %d sections, and in the translation %d",
			len(sections[0]), len(sections[1]))}
	}
	for i, section := range sections[0] {
		want, got := held(section), held(sections[1][i])
		for _, missing := range want {
			if n := slices.Index(got, missing); n >= 0 {
				got = slices.Delete(got, n, n+1)
			} else {
				differs = append(differs, fmt.Sprintf("section %d of the translation lacks %s", i, missing))
			}
		}
		for _, more := range got {
			differs = append(differs, fmt.Sprintf("section %d of the translation adds %s", i, more))
		}
	}
	return differs
}

// held is what a translation keeps, as a list: the heading's level, code, links and figures.
func held(section string) (all []string) {
	section = ownNames.Replace(section)
	all = append(all, fmt.Sprint("a heading of level ", len(section)-len(strings.TrimLeft(section, "#"))))
	take := func(what *regexp.Regexp) {
		for _, found := range what.FindAllString(section, -1) {
			all = append(all, remark.ReplaceAllString(found, ""))
		}
		section = what.ReplaceAllString(section, "")
	}
	for _, what := range []*regexp.Regexp{codeBlock, codeSpan, target, figure} {
		take(what)
	}
	return all
}
