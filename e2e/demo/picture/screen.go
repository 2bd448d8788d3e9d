package main

import (
	"fmt"
	"strings"
)

// line is a row of the terminal, or a part of one, that appears at once.
type line struct {
	at          float64
	row, column int
	spans       []span
}

// span is text of one look; the looks are SGR codes.
type span struct {
	look string
	text string
}

// longest is how long the picture stands still, at most: where nothing is shown for longer, that
// is cut out.
const longest = 3.0

// lines sets what was shown in rows, from the first that was shown on. It knows text, line ends and
// colours; of anything else, such as a cursor that moves, it says that it cannot be drawn.
func (r recording) lines() (all []line, err error) {
	var (
		now, before float64
		look        string
		row, column int
		fresh       = true // the next character begins a line
	)
	for i, s := range r.shown {
		if now += min(s.at-before, longest); i == 0 {
			now = 0 // whatever it did before, it showed nothing
		}
		fresh = fresh || now-all[len(all)-1].at >= together
		before = s.at
		text := s.text
		for text != "" {
			if codes, rest, found := sgr(text); found {
				look, text = codes, rest
				continue
			}
			char := []rune(text)[0]
			text = text[len(string(char)):]
			switch {
			case char == '\r' && strings.HasPrefix(text, "\n"):
			case char == '\n':
				if column == 0 {
					all = append(all, line{at: now, row: row})
				}
				row, column, fresh = row+1, 0, true
			case char < ' ' || char == 0x7f:
				return nil, fmt.Errorf("the character %q, %.1f s after the begin, is none that is drawn", char, s.at)
			default:
				if column == r.Width {
					row, column, fresh = row+1, 0, true
				}
				if fresh {
					all = append(all, line{at: now, row: row, column: column})
					fresh = false
				}
				all[len(all)-1].add(look, char)
				column++
			}
		}
	}
	return all, nil
}

// sgr cuts a code for colours off the begin of a text.
func sgr(text string) (codes, rest string, found bool) {
	after, found := strings.CutPrefix(text, "\x1b[")
	if !found {
		return "", text, false
	}
	codes, rest, found = strings.Cut(after, "m")
	if !found || strings.Trim(codes, "0123456789;") != "" {
		return "", text, false
	}
	if codes == "0" {
		codes = ""
	}
	return codes, rest, true
}

func (l *line) add(look string, char rune) {
	if n := len(l.spans); n == 0 || l.spans[n-1].look != look {
		l.spans = append(l.spans, span{look: look})
	}
	l.spans[len(l.spans)-1].text += string(char)
}
