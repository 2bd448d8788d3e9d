// Package manifests reads and edits static-pod manifests as text. Bytes in, bytes out: it does no
// I/O and knows nothing of the node.
//
// The YAML parser only locates things; an edit then replaces bytes of the original text, so
// comments, order, quoting, blank lines and line ends stay as they were. What cannot be edited that
// way is refused, with its line, never rewritten.
package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// MaxSize is the largest manifest that Parse accepts, in bytes. kubeadm's own have about 4 KiB.
const MaxSize = 1 << 20

// Manifest is one static-pod manifest. It is immutable: an edit returns a new one.
type Manifest struct {
	text  []byte
	lines []int // offset of each line's first byte, after a byte order mark in the first
	root  *yaml.Node
	pod   pod
}

// Parse reads a manifest in YAML or JSON. Its errors begin with "line N: ". It refuses anything but
// exactly one v1 Pod with a name, what the kubelet would refuse (duplicate keys, values of the
// wrong type in what etcdpod reads), and what cannot be edited safely as text: anchors, aliases and
// merges in metadata, containers and volumes, and line breaks that some YAML parsers do not
// recognize. The kubelet reads only the first document of a file (pkg/kubelet/config/common.go), so
// a second one is refused as a likely mistake.
func Parse(b []byte) (*Manifest, error) {
	m := &Manifest{text: bytes.Clone(b)}
	var err error
	if m.lines, err = splitLines(m.text); err != nil {
		return nil, err
	}
	if m.root, err = onlyDocument(m.text); err != nil {
		return nil, err
	}
	if err := checkKeys(m.root); err != nil {
		return nil, err
	}
	if m.pod, err = readPod(m.root); err != nil {
		return nil, err
	}
	return m, nil
}

// Bytes returns the text, byte for byte as parsed or edited.
func (m *Manifest) Bytes() []byte { return bytes.Clone(m.text) }

// Name returns metadata.name, without the node's name, which the kubelet appends.
func (m *Manifest) Name() string { return m.pod.name }

// Namespace returns metadata.namespace, or "default" as the kubelet does if there is none.
func (m *Manifest) Namespace() string {
	if m.pod.namespace == "" {
		return "default"
	}
	return m.pod.namespace
}

// HostNetwork says whether the pod uses the node's network, as kubeadm's do.
func (m *Manifest) HostNetwork() bool { return m.pod.hostNetwork }

// Label returns the value of a label.
func (m *Manifest) Label(key string) (string, bool) {
	v, ok := m.pod.labels[key]
	return v, ok
}

// Annotation returns the value of an annotation.
func (m *Manifest) Annotation(key string) (string, bool) {
	f, ok := m.pod.annotations.entries[key]
	if !ok {
		return "", false
	}
	return f.value.Value, true
}

// refusal is an error about one line.
func refusal(line int, format string, args ...any) error {
	return fmt.Errorf("line %d: %s", max(line, 1), fmt.Sprintf(format, args...))
}

const byteOrderMark = "\xef\xbb\xbf"

func splitLines(text []byte) ([]int, error) {
	if len(text) > MaxSize {
		return nil, refusal(1, "the file has %d bytes; a static-pod manifest has at most %d", len(text), MaxSize)
	}
	lines := []int{0}
	if bytes.HasPrefix(text, []byte(byteOrderMark)) {
		lines[0] = len(byteOrderMark)
	}
	for i := lines[0]; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return nil, refusal(len(lines), "not UTF-8")
		case r == '\r' && !bytes.HasPrefix(text[i:], []byte("\r\n")), r == '\u0085', r == '\u2028', r == '\u2029':
			return nil, refusal(len(lines), "a line break (%U) that not every YAML parser takes for one", r)
		}
		i += size
		if r == '\n' {
			lines = append(lines, i)
		}
	}
	return lines, nil
}

// onlyDocument returns the top node of a text with one document. Decoding to nodes expands no
// aliases, so a small text stays small.
func onlyDocument(text []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var first yaml.Node
	switch err := d.Decode(&first); {
	case errors.Is(err, io.EOF):
		return nil, refusal(1, "empty")
	case err != nil:
		return nil, yamlRefusal(err)
	}
	root := first.Content[0]
	if isNull(root) {
		return nil, refusal(root.Line, "empty")
	}
	for {
		var next yaml.Node
		err := d.Decode(&next)
		switch {
		case errors.Is(err, io.EOF):
			return root, nil
		case err != nil:
			return nil, yamlRefusal(err)
		case !isNull(next.Content[0]):
			return nil, refusal(next.Content[0].Line, "a second document; a static-pod manifest holds one Pod")
		}
	}
}

// yamlRefusal gives the parser's errors our own form.
func yamlRefusal(err error) error {
	s := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.HasPrefix(s, "line ") {
		return errors.New(s)
	}
	return refusal(1, "%s", s)
}

// checkKeys refuses keys that are not simple, and duplicates: of those, parsers take the first,
// the last, or neither.
func checkKeys(n *yaml.Node) error {
	if n.Kind == yaml.MappingNode {
		lines := make(map[string]int, len(n.Content)/2)
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				return refusal(key.Line, "a key that is not a simple value")
			}
			if line, ok := lines[key.Value]; ok {
				return refusal(key.Line, "duplicate key %q, first on line %d", key.Value, line)
			}
			lines[key.Value] = key.Line
		}
	}
	for _, c := range n.Content {
		if err := checkKeys(c); err != nil {
			return err
		}
	}
	return nil
}

func isNull(n *yaml.Node) bool {
	return n == nil || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}
