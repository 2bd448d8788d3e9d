package templates

import (
	"iter"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
)

// lineOf returns the file's line of a field, such as etcd.local.extraArgs[0].name; if the field is
// missing, that of its parent.
func (d *document) lineOf(field string) int {
	if d == nil {
		return 0
	}
	line, n := d.first(), d.root
	for step := range steps(field) {
		next, key := child(n, step)
		if next == nil {
			break
		}
		n, line = next, d.line+key.Line-1
	}
	return line
}

// steps splits a field's path into keys, and indices in brackets.
func steps(field string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(field, ".") {
			name, indices, _ := strings.Cut(part, "[")
			if name != "" && !yield(name) {
				return
			}
			for index := range strings.SplitSeq(indices, "[") {
				if index != "" && !yield("["+index) {
					return
				}
			}
		}
	}
}

// child returns what a step leads to, and the node that shows a person the place: the
// key, or an item itself.
func child(n *yamlv3.Node, step string) (value, place *yamlv3.Node) {
	n = resolved(n)
	if n == nil {
		return nil, nil
	}
	if index, isIndex := strings.CutPrefix(step, "["); isIndex {
		i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
		if n.Kind != yamlv3.SequenceNode || err != nil || i < 0 || i >= len(n.Content) {
			return nil, nil
		}
		return n.Content[i], n.Content[i]
	}
	if n.Kind != yamlv3.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == step {
			return n.Content[i+1], n.Content[i]
		}
	}
	return nil, nil
}

func resolved(n *yamlv3.Node) *yamlv3.Node {
	if n != nil && n.Kind == yamlv3.AliasNode {
		return n.Alias
	}
	return n
}

// misfit finds a value of a JSON type by a path without indices.
func (d *document) misfit(field, jsonType string) *yamlv3.Node {
	at := []*yamlv3.Node{resolved(d.root)}
	for step := range steps(field) {
		var next []*yamlv3.Node
		for _, n := range at {
			if n != nil && n.Kind == yamlv3.SequenceNode {
				for _, item := range n.Content {
					if v, _ := child(item, step); v != nil {
						next = append(next, resolved(v))
					}
				}
			}
			if v, _ := child(n, step); v != nil {
				next = append(next, resolved(v))
			}
		}
		at = next
	}
	for _, n := range at {
		if n != nil && isOf(n, jsonType) {
			return n
		}
		for _, item := range items(n) { // a list item has the list's path
			if isOf(item, jsonType) {
				return item
			}
		}
	}
	return nil
}

func items(n *yamlv3.Node) []*yamlv3.Node {
	if n == nil || n.Kind != yamlv3.SequenceNode {
		return nil
	}
	return n.Content
}

// isOf says whether YAML 1.1, which kubeadm reads, gives a node this JSON type.
func isOf(n *yamlv3.Node, jsonType string) bool {
	switch jsonType {
	case "object":
		return n.Kind == yamlv3.MappingNode
	case "array":
		return n.Kind == yamlv3.SequenceNode
	}
	if n.Kind != yamlv3.ScalarNode {
		return false
	}
	tag := n.ShortTag()
	if tag == "!!str" && n.Style == 0 {
		switch strings.ToLower(n.Value) {
		case "y", "n", "yes", "no", "on", "off":
			tag = "!!bool"
		}
	}
	switch jsonType {
	case "number":
		return tag == "!!int" || tag == "!!float"
	case "bool":
		return tag == "!!bool"
	}
	return tag == "!!str"
}

// scalars walks all scalars, aliases not followed.
func scalars(n *yamlv3.Node) iter.Seq[*yamlv3.Node] {
	return func(yield func(*yamlv3.Node) bool) { walk(n, yield) }
}

func walk(n *yamlv3.Node, yield func(*yamlv3.Node) bool) bool {
	if n == nil {
		return true
	}
	if n.Kind == yamlv3.ScalarNode {
		return yield(n)
	}
	for _, c := range n.Content {
		if !walk(c, yield) {
			return false
		}
	}
	return true
}
