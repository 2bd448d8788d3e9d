package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

const (
	codeLimit = 120
	textLimit = 100 // comments and Markdown
	tabWidth  = 4
)

// made lists what programs write: it is mended there.
var made = []string{"docs/commands.md"}

// A finding is a line that is too wide.
type finding struct {
	File               string
	Line, Width, Limit int
}

func (f finding) String() string {
	return fmt.Sprintf("%s:%d: %d columns, of %d", f.File, f.Line, f.Width, f.Limit)
}

// tree looks through all Go and Markdown files below a directory. What tests read as data, and what
// stands in directories whose names begin with a dot, is nobody's text.
func tree(root string) ([]finding, error) {
	var all []finding
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if d.IsDir() {
			if d.Name() == "testdata" || name == "bin" || name != "." && strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
			return nil
		}
		found, err := file(path, name)
		all = append(all, found...)
		return err
	})
	return all, err
}

func file(path, name string) ([]finding, error) {
	look := map[string]func(string) ([]finding, error){".go": code, ".md": markdown}[filepath.Ext(name)]
	for _, m := range made {
		if name == m {
			return nil, nil
		}
	}
	if look == nil {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	found, err := look(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for i := range found {
		found[i].File = name
	}
	return found, nil
}

// columns is how wide a line is, in characters, with tabs as wide as most editors show Go's.
func columns(line string) int {
	return utf8.RuneCountInString(line) + (tabWidth-1)*strings.Count(line, "\t")
}

// breakable tells whether a text has a place at which it could go on in the next line: a space that
// is not part of what begins the line, as the dash of a list is.
func breakable(text string) bool {
	words := strings.Fields(text)
	for len(words) > 0 && isMarker(words[0]) {
		words = words[1:]
	}
	return len(words) > 1
}

func isMarker(word string) bool {
	switch word {
	case "-", "*", "+", ">", "//", "/*":
		return true
	}
	digits := strings.TrimRight(word, ".)")
	return digits != word && strings.Trim(digits, "0123456789") == ""
}
