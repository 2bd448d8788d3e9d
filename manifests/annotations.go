package manifests

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// SetAnnotation sets an annotation: in place if it exists, else after the others, else in a
// new metadata.annotations.
func (m *Manifest) SetAnnotation(key, value string) (*Manifest, error) {
	if got, ok := m.Annotation(key); ok && got == value {
		return m, nil
	}
	e := m.edit()
	edited, err := (*Manifest)(nil), e.setAnnotation(key, value)
	if err == nil {
		edited, err = e.apply()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot set annotation %s: %w", key, err)
	}
	return edited, nil
}

func (e *edit) setAnnotation(key, value string) error {
	p := &e.m.pod
	if key == "" {
		return fmt.Errorf("its name is empty")
	}
	if f, ok := p.annotations.entries[key]; ok {
		return e.replace(f.value, value)
	}
	node := p.annotations.node
	switch {
	case node == nil:
		return e.addEntry(p.metadata, "annotations", key, value)
	case len(node.Content) > 0:
		return e.addEntry(node, "", key, value)
	default:
		return e.fillEmpty(p.annotationsKey, node, key, value)
	}
}

func mappingNode(content ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: content}
}

// addEntry adds key: value to a mapping that has entries, or under a new key in it if under is not
// empty. It goes after the last entry whose end is known.
func (e *edit) addEntry(to *yaml.Node, under, key, value string) error {
	last := len(to.Content) - 1
	for ; last > 0; last -= 2 {
		if _, _, err := e.m.extent(to.Content[last]); err == nil {
			break
		}
	}
	if last < 0 {
		return refusal(to.Line, "no entry of the mapping is written on one line")
	}
	k, v := to.Content[last-1], to.Content[last]
	added := []*yaml.Node{stringNode(key), stringNode(value)}
	if under != "" {
		added = []*yaml.Node{stringNode(under), mappingNode(added...)}
	}
	e.becomes[v] = append([]*yaml.Node{v}, added...)

	keyFrom, keyTo, err := e.m.extent(k)
	if err != nil {
		return err
	}
	valueFrom, valueTo, err := e.m.extent(v)
	if err != nil {
		return err
	}
	flow := e.m.inFlow(v)
	var texts [3]string
	for i, s := range []string{under, key, value} {
		style := k.Style
		if i == 2 {
			style = v.Style
		}
		if texts[i], err = scalar(s, style, flow); err != nil {
			return err
		}
	}
	if flow {
		colon := string(e.m.text[keyTo:valueFrom])
		if strings.TrimSpace(colon) != ":" || k.Style == 0 {
			colon = ": "
		}
		entry := texts[1] + colon + texts[2]
		if under != "" {
			entry = texts[0] + colon + "{" + entry + "}"
		}
		e.cut(valueTo, valueTo, e.separator(to.Content, k, 2)+entry)
		return nil
	}
	start, end, err := e.m.ownLines(keyFrom, valueTo, blank)
	if err != nil {
		return err
	}
	indent := string(e.m.text[start:keyFrom])
	entry := indent + texts[1] + ": " + texts[2]
	if under == "" {
		e.insertLines(end, []string{entry})
	} else {
		e.insertLines(end, []string{indent + texts[0] + ":", "  " + entry})
	}
	return nil
}

// fillEmpty puts the first entry into a mapping that is {}, null, or nothing at all.
func (e *edit) fillEmpty(parent, node *yaml.Node, key, value string) error {
	k, err := scalar(key, parent.Style, true)
	if err != nil {
		return err
	}
	v, err := scalar(value, parent.Style, true)
	if err != nil {
		return err
	}
	e.becomes[node] = []*yaml.Node{mappingNode(stringNode(key), stringNode(value))}
	entry := "{" + k + ": " + v + "}"
	if node.Kind == yaml.MappingNode {
		from := e.m.offset(node)
		to := from + strings.IndexByte(string(e.m.text[from:]), '}') + 1
		if inside := strings.TrimPrefix(string(e.m.text[from:to]), "{"); strings.TrimSpace(inside) != "}" {
			return refusal(node.Line, "the empty mapping is tagged or holds a comment")
		}
		e.cut(from, to, entry)
		return nil
	}
	if from, to, err := e.m.extent(node); err == nil {
		e.cut(from, to, entry)
		return nil
	}
	_, to, err := e.m.extent(parent)
	if err != nil {
		return err
	}
	if rest := string(e.m.text[to:]); node.Value == "" && strings.HasPrefix(rest, ":") {
		e.cut(to+1, to+1, " "+entry)
		return nil
	}
	return refusal(parent.Line, "the empty mapping is written in a way that is not edited")
}

// RemoveAnnotation removes an annotation, and with the last one also metadata.annotations, if that
// has a line of its own. A missing annotation is no error.
func (m *Manifest) RemoveAnnotation(key string) (*Manifest, error) {
	f, ok := m.pod.annotations.entries[key]
	if !ok {
		return m, nil
	}
	e := m.edit()
	edited, err := (*Manifest)(nil), e.removeAnnotation(f)
	if err == nil {
		edited, err = e.apply()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot remove annotation %s: %w", key, err)
	}
	return edited, nil
}

func (e *edit) removeAnnotation(f field) error {
	node := e.m.pod.annotations.node
	e.becomes[f.key], e.becomes[f.value] = []*yaml.Node{}, []*yaml.Node{}
	if node.Style&yaml.FlowStyle != 0 {
		return e.removeFlow(node.Content, f.key, f.value, func(n *yaml.Node) bool { return n != f.key && n != f.value })
	}
	from, _, err := e.m.extent(f.key)
	if err != nil {
		return err
	}
	_, to, err := e.m.extent(f.value)
	if err != nil {
		return err
	}
	start, end, err := e.m.ownLines(from, to, blank)
	if err != nil {
		return err
	}
	if len(node.Content) > 2 {
		e.cut(start, end, "")
		return nil
	}
	parent := e.m.pod.annotationsKey
	if at, parentEnd, err := e.ownKeyLine(parent); err == nil && parentEnd == start {
		e.becomes[parent], e.becomes[node] = []*yaml.Node{}, []*yaml.Node{}
		e.cut(at, end, "")
		return nil
	}
	e.becomes[node] = []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!null"}}
	e.cut(start, end, "")
	return nil
}

// ownKeyLine returns the line that holds only a key and its colon.
func (e *edit) ownKeyLine(key *yaml.Node) (start, end int, err error) {
	from, to, err := e.m.extent(key)
	if err != nil {
		return 0, 0, err
	}
	return e.m.ownLines(from, to+1, blank)
}
