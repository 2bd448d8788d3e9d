package manifests

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// offset turns a node's line and column, which count characters, into a byte offset in the text.
func (m *Manifest) offset(n *yaml.Node) int {
	at := m.lines[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(m.text[at:])
		at += size
	}
	return at
}

// extent returns where a scalar is written, quotes included. The parser reports only its
// start, so extent finds its end; it refuses block scalars, plain ones over several lines,
// and those with a tag.
func (m *Manifest) extent(n *yaml.Node) (from, to int, err error) {
	if n.Line < 1 || n.Line > len(m.lines) {
		return 0, 0, refusal(n.Line, "the value is not written anywhere")
	}
	from = m.offset(n)
	to = -1
	rest := m.text[from:]
	switch {
	case n.Kind != yaml.ScalarNode:
	case n.Style == yaml.DoubleQuotedStyle && bytes.HasPrefix(rest, []byte(`"`)):
		to = doubleQuoted(rest)
	case n.Style == yaml.SingleQuotedStyle && bytes.HasPrefix(rest, []byte(`'`)):
		to = singleQuoted(rest)
	case n.Style == 0 && n.Value != "" && bytes.HasPrefix(rest, []byte(n.Value)):
		to = len(n.Value)
	}
	if to < 0 {
		return 0, 0, refusal(n.Line, "a value that is tagged, or written as a block or over several lines, is not "+
			"edited; write it on one line, in quotes if need be")
	}
	return from, from + to, nil
}

func doubleQuoted(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

func singleQuoted(text []byte) int {
	for i := 1; i < len(text); i++ {
		if text[i] != '\'' {
			continue
		}
		if i+1 < len(text) && text[i+1] == '\'' {
			i++
			continue
		}
		return i + 1
	}
	return -1
}

// Plain strings are those that every YAML parser reads as this string without quotes, YAML 1.1 ones
// (the kubelet's) included. It is deliberately narrow: what begins with a digit or a dot may be a
// number or a date; the comma ends a value in flow style.
var (
	plain     = regexp.MustCompile(`^(--?[A-Za-z]|[A-Za-z/])([A-Za-z0-9/._=@%+~$(),-]|:[A-Za-z0-9/.])*$`)
	plainWord = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null)$`)
)

// scalar writes a string in a neighbour's style, or in double quotes if that style cannot hold it.
func scalar(value string, style yaml.Style, flow bool) (string, error) {
	if !utf8.ValidString(value) {
		return "", fmt.Errorf("the new value is not UTF-8")
	}
	printable := strings.IndexFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
	switch {
	case style == 0 && plain.MatchString(value) && !plainWord.MatchString(value) &&
		!(flow && strings.Contains(value, ",")):
		return value, nil
	case style == yaml.SingleQuotedStyle && printable:
		return "'" + strings.ReplaceAll(value, "'", "''") + "'", nil
	}
	return quoted(value)
}

// quoted writes a double-quoted string that JSON and YAML read alike.
func quoted(value string) (string, error) {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range value {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			return "", fmt.Errorf("the new value has the character %U, which JSON and YAML write differently", r)
		}
	}
	b.WriteByte('"')
	return b.String(), nil
}
