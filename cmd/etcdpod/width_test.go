package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// A terminal breaks a line that is too wide wherever it ends, in the middle of a word.
func TestNoLineOfHelpOrResultsRunsOverTheEdgeOfATerminal(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.db")
	for _, columns := range []uint16{80, 40} {
		lines := []string{"", "certs", "init phase", "version", "verify " + missing}
		for _, c := range (&session{}).app().Commands {
			if !c.Hidden {
				lines = append(lines, "help "+c.Name)
			}
		}
		for _, line := range lines {
			tty := newTerminal(t, columns)
			s := tty.session()
			s.args = strings.Fields(line)
			if line == "certs" || line == "init phase" {
				s.args = append(s.args, "--help")
			}
			s.serve(t.Context())
			example := false
			for _, row := range strings.Split(strings.ReplaceAll(tty.all(t), "\r", ""), "\n") {
				example = row == "Example:" || example && row != "" // commands stay in one piece
				if !example && len([]rune(row)) > int(columns) && strings.Contains(strings.TrimLeft(row, " "), " ") {
					t.Errorf("etcdpod %s, in %d columns: %q", line, columns, row)
				}
			}
		}
	}
}

func TestLinesAreFoldedAtSpaces(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"short\n", "short\n"},
		{"cp1: etcd does not answer\n", "cp1: etcd does not\n  answer\n"},
		{"    note: read back all of it\n", "    note: read back\n      all of it\n"},
		{"- /a/path/that/is/wider/than/it is left\n", "- /a/path/that/is/wider/than/it\n  is left\n"},
		{"Way back: `a command that is wider`; so\n", "Way back: `a command that is wider`;\n  so\n"},
		{"Next: /a/path/that/fits\n", "Next:\n  /a/path/that/fits\n"},
		{"good  /a/path/that/is/wider/than/it\n\nrest", "good\n  /a/path/that/is/wider/than/it\n\nrest"},
	} {
		if got := folded(tt.text, 20); got != tt.want {
			t.Errorf("%q becomes\n%s", tt.text, got)
		}
		if got := folded(tt.text, 0); got != tt.text {
			t.Errorf("without a terminal %q becomes\n%s", tt.text, got)
		}
	}
}
