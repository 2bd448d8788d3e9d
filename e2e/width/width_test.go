package main

import (
	"strings"
	"testing"
)

func TestNoLineOfThisRepositoryIsTooWide(t *testing.T) {
	found, err := tree("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// A case holds a text against the lines that are too wide. In the texts, 90, 110 and 130 stand for
// as many letters, and 9x10 for words of nine letters and a space, ten times.
type widthCase struct {
	name, text string
	wide       []int
}

func (c widthCase) check(t *testing.T, look func(string) ([]finding, error)) {
	t.Helper()
	text := strings.NewReplacer("9x10", strings.Repeat("ninechars ", 10), "130", strings.Repeat("c", 130),
		"110", strings.Repeat("b", 110), "90", strings.Repeat("a", 90)).Replace(c.text)
	found, err := look(text)
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	var wide []int
	for _, f := range found {
		wide = append(wide, f.Line)
	}
	if len(wide) != len(c.wide) {
		t.Fatalf("%s: lines %v are too wide, want %v:\n%s", c.name, wide, c.wide, text)
	}
	for i := range wide {
		if wide[i] != c.wide[i] {
			t.Errorf("%s: lines %v are too wide, want %v:\n%s", c.name, wide, c.wide, text)
		}
	}
}

func TestCodeIsWrappedAt120AndCommentsAt100(t *testing.T) {
	for _, c := range []widthCase{
		{"code", "package a\n\nvar a = `110`\nvar a = `130`\n", []int{4}},
		{"tabs count four", "package a\n\n\t\t\tvar a = 110\n", []int{3}},
		{"characters, not bytes", "package a\n\n// ä" + strings.Repeat("ä ", 48) + "\n", nil},
		{"a comment", "package a\n\n// x 90\n// 9x10x\n", []int{4}},
		{"an indented comment", "package a\n\nfunc a() {\n\t// xx 90\n\t// xxx 90\n}\n", []int{5}},
		{"a comment that is one word", "package a\n\n// 130\n//  - 110\n//\t130\n", nil},
		{"two words", "package a\n\n// a 110\n//  - a 110\n", []int{3, 4}},
		{"a comment behind code", "package a\n\nvar b = c // 9x10\nvar b = c // 110\n", []int{3, 4}},
		{"between stars", "package a\n\n/* a\n9x10x\n*/\n", []int{4}},
		{"directives", "package a\n\n//go:generate a 9x10\nvar a = 90 //nolint:unparam // 9x10\n", nil},
		{"code before a directive", "package a\n\nvar a = 130 //nolint:unparam // 9x10\n", []int{3}},
		{"imports", "package a\n\nimport \"130\"\nimport (\n\t\"a\"\n\ta \"130\"\n)\nvar a = 130\n", []int{8}},
		{"a raw string of several lines", "package a\n\nvar a = `a\n9x10 // 9x10 9x10\n`\nvar a = 130\n", []int{6}},
		{"a raw string on one line", "package a\n\nvar a = `a // 130`\n", []int{3}},
		{"a tag", "package a\n\ntype a struct {\n\tb int `json:\"130\"`\n}\n", []int{4}},
		{"slashes in a string", "package a\n\nvar a = \"https://110\"\n", []int{3}},
	} {
		c.check(t, code)
	}
}

func TestMarkdownIsWrappedAt100(t *testing.T) {
	for _, c := range []widthCase{
		{"a paragraph", "a 90\n\n9x10x\n", []int{3}},
		{"a list", "- a 90\n- a 110\n  a 110\n1. a 110\n   > a 110\n", []int{2, 3, 4, 5}},
		{"one word", "https://110\n\n- [90](https://110)\n1. 110\n> 110\n", nil},
		{"tables and headings", "| a | 110 |\n  | a | 110 |\n# 9x10 9x10\n", nil},
		{"definitions of links", "[a]: https://110 \"9x10\"\n", nil},
		{"a block of code", "```\n9x10x\n```\n9x10x\n", []int{4}},
		{"a block within a list", "- a\n  ```console\n  9x10x\n  ```\n  9x10x\n", []int{5}},
		{"a longer fence", "````\n```\n9x10x\n````\n9x10x\n", []int{5}},
		{"indented code", "a\n\n    9x10x\n\n    9x10x\n\n9x10x\n", []int{7}},
		{"indented text", "- a\n    9x10x\n", []int{2}},
	} {
		c.check(t, markdown)
	}
}

func TestAFindingSaysWhere(t *testing.T) {
	if got := (finding{"a/b.go", 7, 131, 120}).String(); got != "a/b.go:7: 131 columns, of 120" {
		t.Error(got)
	}
}
