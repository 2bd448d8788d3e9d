package manifests

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// addItems adds strings to a list, after one of its items and in the list's style.
func (e *edit) addItems(list, after *yaml.Node, style yaml.Style, values ...string) error {
	from, to, err := e.m.extent(after)
	if err != nil {
		return err
	}
	flow := e.m.inFlow(after)
	var texts []string
	nodes := []*yaml.Node{after}
	for _, value := range values {
		text, err := scalar(value, style, flow)
		if err != nil {
			return err
		}
		texts = append(texts, text)
		nodes = append(nodes, stringNode(value))
	}
	e.becomes[after] = nodes
	if flow {
		separator := e.separator(list.Content, after, 1)
		for _, text := range texts {
			e.cut(to, to, separator+text)
		}
		return nil
	}
	start, end, err := e.m.ownLines(from, to, dash)
	if err != nil {
		return err
	}
	for i := range texts {
		texts[i] = string(e.m.text[start:from]) + texts[i]
	}
	e.insertLines(end, texts)
	return nil
}

// separator returns the text between n and the item before it in flow style; ", " if there is no
// such item, or the text cannot be repeated. An item has step nodes.
func (e *edit) separator(siblings []*yaml.Node, n *yaml.Node, step int) string {
	if i := slices.Index(siblings, n); i >= step {
		_, end, err := e.m.extent(siblings[i-1])
		from, _, err2 := e.m.extent(n)
		if err == nil && err2 == nil && comma.Match(e.m.text[end:from]) {
			return string(e.m.text[end:from])
		}
	}
	return ", "
}

// removeItems removes items from a list of strings.
func (e *edit) removeItems(list *yaml.Node, items []*yaml.Node) error {
	if len(items) == len(list.Content) {
		return refusal(list.Line, "the list would be left empty")
	}
	flow := list.Style&yaml.FlowStyle != 0
	for _, item := range items {
		e.becomes[item] = []*yaml.Node{}
	}
	stays := func(n *yaml.Node) bool { _, gone := e.becomes[n]; return !gone }
	for _, item := range items {
		if flow {
			if err := e.removeFlow(list.Content, item, item, stays); err != nil {
				return err
			}
			continue
		}
		from, to, err := e.m.extent(item)
		if err != nil {
			return err
		}
		start, end, err := e.m.ownLines(from, to, dash)
		if err != nil {
			return err
		}
		e.cut(start, end, "")
	}
	return nil
}

// removeFlow removes first to last (the same node, or a key and its value), with the comma before
// them, or after them if nothing before them stays.
func (e *edit) removeFlow(siblings []*yaml.Node, first, last *yaml.Node, stays func(*yaml.Node) bool) error {
	from, _, err := e.m.extent(first)
	if err != nil {
		return err
	}
	_, to, err := e.m.extent(last)
	if err != nil {
		return err
	}
	i, j := slices.Index(siblings, first), slices.Index(siblings, last)
	var gapFrom int
	gapTo := from
	switch {
	case slices.ContainsFunc(siblings[:i], stays):
		if _, gapFrom, err = e.m.extent(siblings[i-1]); err != nil {
			return err
		}
		from = gapFrom
	case j+1 < len(siblings):
		gapFrom = to
		if gapTo, _, err = e.m.extent(siblings[j+1]); err != nil {
			return err
		}
		to = gapTo
	default:
		e.cut(from, to, "")
		return nil
	}
	if !comma.Match(e.m.text[gapFrom:gapTo]) {
		return refusal(first.Line, "there is more than a comma beside it")
	}
	e.cut(from, to, "")
	return nil
}
