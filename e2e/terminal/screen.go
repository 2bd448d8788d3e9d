package terminal

import (
	"strconv"
	"strings"
)

// Screen is all that was shown, as it stands on the terminal in the end: with its lines broken, and
// without what was drawn over.
func (t *Terminal) Screen() string { return Screen(t.Text(), t.columns) }

// Screen is what a terminal of so many columns shows of an output. It knows what this program's
// output needs: carriage returns, line feeds, and to move up, erase and colour.
func Screen(output string, columns int) string {
	s := screen{columns: columns, lines: [][]rune{nil}}
	for rest := output; rest != ""; {
		if at := escapes.FindStringIndex(rest); at != nil && at[0] == 0 {
			s.escape(rest[:at[1]])
			rest = rest[at[1]:]
			continue
		}
		for _, r := range rest {
			s.put(r)
			rest = rest[len(string(r)):]
			break
		}
	}
	var b strings.Builder
	for _, line := range s.lines {
		b.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

type screen struct {
	columns  int
	lines    [][]rune
	row, col int
}

func (s *screen) put(r rune) {
	switch r {
	case '\r':
		s.col = 0
	case '\n':
		s.feed()
	default:
		if s.col >= s.columns {
			s.feed()
			s.col = 0
		}
		line := s.lines[s.row]
		for len(line) <= s.col {
			line = append(line, ' ')
		}
		line[s.col] = r
		s.lines[s.row] = line
		s.col++
	}
}

func (s *screen) feed() {
	if s.row++; s.row == len(s.lines) {
		s.lines = append(s.lines, nil)
	}
}

// escape obeys CSI n A and CSI J; colours are not kept.
func (s *screen) escape(code string) {
	switch code[len(code)-1] {
	case 'A':
		n, err := strconv.Atoi(code[2 : len(code)-1])
		if err != nil {
			n = 1
		}
		s.row = max(0, s.row-n)
	case 'J':
		s.lines = s.lines[:s.row+1]
		s.lines[s.row] = s.lines[s.row][:min(s.col, len(s.lines[s.row]))]
	}
}
