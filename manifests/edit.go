package manifests

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
)

// edit is a change in two forms: cuts in the text, and the nodes that should result. The
// cut text is parsed again and must give exactly those nodes, so a cut that does too much
// or too little is an error.
type edit struct {
	m       *Manifest
	cuts    []cut
	becomes map[*yaml.Node][]*yaml.Node
}

// cut replaces the bytes from from up to to with text.
type cut struct {
	from, to int
	text     string
}

func (m *Manifest) edit() *edit { return &edit{m: m, becomes: map[*yaml.Node][]*yaml.Node{}} }

func (e *edit) cut(from, to int, text string) { e.cuts = append(e.cuts, cut{from, to, text}) }

func (e *edit) apply() (*Manifest, error) {
	if len(e.cuts) == 0 {
		return e.m, nil
	}
	slices.SortStableFunc(e.cuts, func(a, b cut) int { return cmp.Compare(a.from, b.from) })
	var text []byte
	at := 0
	for _, c := range e.cuts {
		if c.from > at {
			text = append(text, e.m.text[at:c.from]...)
		}
		text = append(text, c.text...)
		at = max(at, c.to)
	}
	text = append(text, e.m.text[at:]...)
	// The last line went, and had no line end: neither shall the new last line.
	if at == len(e.m.text) && !bytes.HasSuffix(e.m.text, []byte("\n")) {
		text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	}
	edited, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the edited manifest would be refused: %w", err)
	}
	if !same(edited.root, e.expected(e.m.root)[0]) {
		return nil, refusal(e.line(), "the edit would change more than it should")
	}
	return edited, nil
}

func (e *edit) line() int {
	line, _ := slices.BinarySearch(e.m.lines, e.cuts[0].from+1)
	return line
}

func (e *edit) expected(n *yaml.Node) []*yaml.Node {
	if nodes, ok := e.becomes[n]; ok {
		return nodes
	}
	c := *n
	c.Content = nil
	for _, child := range n.Content {
		c.Content = append(c.Content, e.expected(child)...)
	}
	return []*yaml.Node{&c}
}

// same compares what two trees mean, not how they are written.
func same(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.ShortTag() != b.ShortTag() || len(a.Content) != len(b.Content) || a.Anchor != b.Anchor {
		return false
	}
	if a.Value != b.Value && !isNull(a) {
		return false
	}
	for i := range a.Content {
		if !same(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

func stringNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}

// replace changes a scalar's value, in its own style.
func (e *edit) replace(n *yaml.Node, value string) error {
	from, to, err := e.m.extent(n)
	if err != nil {
		return err
	}
	text, err := scalar(value, n.Style, e.m.inFlow(n))
	if err != nil {
		return err
	}
	e.cut(from, to, text)
	e.becomes[n] = []*yaml.Node{stringNode(value)}
	return nil
}

// inFlow says whether a node is inside [] or {}, at any depth.
func (m *Manifest) inFlow(n *yaml.Node) bool {
	var within func(at *yaml.Node, flow bool) (bool, bool)
	within = func(at *yaml.Node, flow bool) (in, found bool) {
		if at == n {
			return flow, true
		}
		for _, c := range at.Content {
			if in, found := within(c, flow || at.Style&yaml.FlowStyle != 0); found {
				return in, true
			}
		}
		return false, false
	}
	in, _ := within(m.root, false)
	return in
}

var (
	dash     = regexp.MustCompile(`^[ \t]*-[ \t]+$`)
	blank    = regexp.MustCompile(`^[ \t]*$`)
	lineRest = regexp.MustCompile(`^([ \t]+#[^\n]*|[ \t]*\r?)$`)
	comma    = regexp.MustCompile(`^[ \t\r\n]*,[ \t\r\n]*$`)
)

// ownLines returns the lines, with their ends, that hold only the bytes from from up to to, apart
// from a comment after them; before matches what precedes them on their first line.
func (m *Manifest) ownLines(from, to int, before *regexp.Regexp) (start, end int, err error) {
	i, exact := slices.BinarySearch(m.lines, from)
	if !exact {
		i--
	}
	start = m.lines[i]
	rest, _, ended := bytes.Cut(m.text[to:], []byte("\n"))
	end = to + len(rest)
	if ended {
		end++
	}
	if !before.Match(m.text[start:from]) || !lineRest.Match(rest) {
		return 0, 0, refusal(i+1, "the line holds something else, too")
	}
	return start, end, nil
}

// lineBreak returns the line break at end, or else that of the first line.
func (m *Manifest) lineBreak(end int) string {
	if !bytes.HasSuffix(m.text[:end], []byte("\n")) {
		end = bytes.IndexByte(m.text, '\n') + 1
	}
	if bytes.HasSuffix(m.text[:end], []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// insertLines inserts lines, given without line breaks, after the line that ends at end.
func (e *edit) insertLines(end int, lines []string) {
	text, eol := "", e.m.lineBreak(end)
	unended := !bytes.HasSuffix(e.m.text[:end], []byte("\n"))
	for _, line := range lines {
		if unended {
			text += eol + line
		} else {
			text += line + eol
		}
	}
	e.cut(end, end, text)
}
