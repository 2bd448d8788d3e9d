package manifests

import "strings"

// Expand fills the container's environment into a command line or a variable, as the kubelet does:
// $(NAME) becomes the variable's value, or stays if there is no such variable, $$ becomes $
// (k8s.io/kubernetes/third_party/forked/golang/expansion). ok is false if a value comes from
// elsewhere and is known only when the container starts.
func (m *Manifest) Expand(container, text string) (expanded string, ok bool) {
	if !strings.Contains(text, "$") {
		return text, true
	}
	env := map[string]variable{}
	if c := m.find(container); c != nil {
		for _, v := range c.env { // a variable sees those before it
			if !v.from {
				var known bool
				v.value, known = expand(v.value, env)
				v.from = !known
			}
			env[v.name] = v
		}
	}
	return expand(text, env)
}

func expand(text string, env map[string]variable) (expanded string, ok bool) {
	var b strings.Builder
	ok = true
	for {
		before, after, found := strings.Cut(text, "$")
		b.WriteString(before)
		if !found {
			return b.String(), ok
		}
		text = after
		if strings.HasPrefix(text, "$") {
			b.WriteByte('$')
			text = text[1:]
			continue
		}
		name, rest, closed := strings.Cut(strings.TrimPrefix(text, "("), ")")
		if !strings.HasPrefix(text, "(") || !closed {
			b.WriteByte('$')
			continue
		}
		text = rest
		if v, known := env[name]; known {
			b.WriteString(v.value)
			ok = ok && !v.from
		} else {
			b.WriteString("$(" + name + ")")
		}
	}
}
