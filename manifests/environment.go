package manifests

import (
	"regexp"
	"slices"
	"strings"
)

// reference is a variable in a command line, or in another variable.
var reference = regexp.MustCompile(`\$\(([^()]*)\)`)

// Unknown returns the variables whose values come from elsewhere, from the pod's status or from
// another object, and that the command line needs, or whose names have one of the prefixes. Their
// values are known only to the container; see WithEnvironment.
func (m *Manifest) Unknown(container string, prefixes ...string) []string {
	c := m.find(container)
	if c == nil {
		return nil
	}
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var need func(text string, depth int)
	need = func(text string, depth int) {
		for _, found := range reference.FindAllStringSubmatch(strings.ReplaceAll(text, "$$", ""), -1) {
			switch v := m.variable(container, found[1]); {
			case v == nil && c.envFrom || v != nil && v.from:
				add(found[1])
			case v != nil && depth < len(c.env):
				need(v.value, depth+1)
			}
		}
	}
	for _, item := range c.argv() {
		need(item.Value, 0)
	}
	for _, v := range c.env {
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(v.name, p) }) {
			continue
		}
		if v.from {
			add(v.name)
		} else {
			need(v.value, 0)
		}
	}
	if c.envFrom && len(prefixes) > 0 && len(names) == 0 {
		add("envFrom") // which they are is not known, either
	}
	return names
}

// WithEnvironment returns the manifest as it is to somebody who knows the environment of its
// container: variables that come from elsewhere have the values that they have there. Its text, and
// what is edited of it, stays the same.
func (m *Manifest) WithEnvironment(container string, env map[string]string) *Manifest {
	known := *m
	known.pod.containers = slices.Clone(m.pod.containers)
	c := known.find(container)
	if c == nil {
		return m
	}
	c.env = slices.Clone(c.env)
	for i, v := range c.env {
		if value, ok := env[v.name]; ok && v.from {
			c.env[i] = variable{name: v.name, value: strings.ReplaceAll(value, "$", "$$")}
		}
	}
	if !c.envFrom {
		return &known
	}
	var more []variable
	for name, value := range env {
		if m.variable(container, name) == nil {
			more = append(more, variable{name: name, value: strings.ReplaceAll(value, "$", "$$")})
		}
	}
	c.env, c.envFrom = append(more, c.env...), false
	return &known
}
