package main

import (
	"errors"
	"go/scanner"
	"go/token"
	"strings"
)

// A line of Go as far as its width is concerned.
type goLine struct {
	begins  token.Token // the first token on it
	comment int         // where a comment begins, in bytes; -1: there is none
	free    bool        // it cannot be wrapped, or means something else if it is
}

// code finds the lines of a Go file that are too wide. A line with a comment on it, behind code or
// not, is as wide as a comment may be. What cannot be wrapped is left out: a comment of one word,
// directives, imports, and raw strings of several lines, which are what the program says.
func code(text string) ([]finding, error) {
	lines := strings.Split(text, "\n")
	kinds, err := classify(text, len(lines))
	if err != nil {
		return nil, err
	}
	var all []finding
	for i, line := range lines {
		kind, limit := kinds[i], codeLimit
		if kind.comment >= 0 {
			comment := line[kind.comment:]
			switch {
			case strings.HasPrefix(comment, "//nolint"): // belongs to the code before it
				line = strings.TrimRight(line[:kind.comment], " \t")
			case strings.HasPrefix(comment, "//go:"), kind.begins == token.COMMENT && !breakable(comment):
				continue
			default:
				limit = textLimit
			}
		}
		if width := columns(line); width > limit && !kind.free {
			all = append(all, finding{Line: i + 1, Width: width, Limit: limit})
		}
	}
	return all, nil
}

// classify reads the tokens of a file.
func classify(text string, n int) ([]goLine, error) {
	lines := make([]goLine, n)
	for i := range lines {
		lines[i] = goLine{begins: token.ILLEGAL, comment: -1}
	}
	files := token.NewFileSet()
	file := files.AddFile("", files.Base(), len(text))
	var wrong error
	var s scanner.Scanner
	s.Init(file, []byte(text), func(at token.Position, says string) {
		wrong = errors.Join(wrong, scanner.Error{Pos: at, Msg: says})
	}, scanner.ScanComments)
	imports, open := false, 0
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			return lines, wrong
		}
		at := file.Position(pos)
		first, last := at.Line-1, at.Line-1+strings.Count(literal, "\n")
		if tok == token.SEMICOLON {
			last = first // the end of a line, which is not on the next
			imports = imports && (open > 0 || literal == ";")
		}
		for i := first; i <= last; i++ {
			if lines[i].begins == token.ILLEGAL {
				lines[i].begins = tok
			}
			switch {
			case tok == token.COMMENT && i > first:
				lines[i].comment = 0
			case tok == token.COMMENT:
				lines[i].comment = at.Column - 1
			case tok == token.STRING && last > first, imports:
				lines[i].free = true
			}
		}
		switch tok {
		case token.IMPORT:
			imports = true
		case token.LPAREN:
			open++
		case token.RPAREN:
			open--
		}
	}
}
