package manifests

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Image returns a container's image, empty if it has none.
func (m *Manifest) Image(container string) string {
	if c := m.find(container); c != nil && c.image != nil {
		return c.image.Value
	}
	return ""
}

// SetImage changes a container's image.
func (m *Manifest) SetImage(container, image string) (*Manifest, error) {
	edited, err := (*Manifest)(nil), errors.New("the pod has no such container with an image")
	if c := m.find(container); c != nil && c.image != nil {
		edited, err = m.set(c.image, image)
	}
	if image == "" {
		err = errors.New("the new one is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot set the image of container %s: %w", container, err)
	}
	return edited, nil
}

// Env returns the literal value of a container's environment variable, as written: Expand fills
// in references. ok is false if there is none, or if its value comes from elsewhere:
// EnvFromElsewhere tells these apart.
func (m *Manifest) Env(container, name string) (value string, ok bool) {
	v := m.variable(container, name)
	if v == nil || v.from {
		return "", false
	}
	return v.value, true
}

// EnvFromElsewhere says that a variable takes its value from the pod's own fields or
// another object (valueFrom).
func (m *Manifest) EnvFromElsewhere(container, name string) bool {
	v := m.variable(container, name)
	return v != nil && v.from
}

// variable finds the last variable of that name, which is the one that the kubelet uses.
func (m *Manifest) variable(container, name string) *variable {
	c := m.find(container)
	if c == nil {
		return nil
	}
	for i := len(c.env) - 1; i >= 0; i-- {
		if c.env[i].name == name {
			return &c.env[i]
		}
	}
	return nil
}

// set replaces one scalar.
func (m *Manifest) set(n *yaml.Node, value string) (*Manifest, error) {
	if n.Value == value {
		return m, nil
	}
	e := m.edit()
	if err := e.replace(n, value); err != nil {
		return nil, err
	}
	return e.apply()
}
