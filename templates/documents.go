package templates

import (
	"bytes"
	encoding "encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// document is one YAML document of a file.
type document struct {
	schema.GroupVersionKind
	line int          // where it begins, from 1
	json []byte       // what it says
	root *yamlv3.Node // its nodes, with their places; nil: unknown
}

// split cuts a file as kubeadm does, at lines that begin with --- (apimachinery, util/yaml:
// YAMLReader), and learns what each document is.
func split(data []byte) ([]*document, error) {
	var docs []*document
	var errs []error
	var text []byte
	begin, line := 1, 0
	end := func() {
		if len(text) > 0 {
			d, found := parse(text, begin)
			docs, errs = append(docs, d), append(errs, found...)
		}
		text, begin = nil, line+1
	}
	for l := range bytes.Lines(data) {
		line++
		rest, isSeparator := bytes.CutPrefix(l, []byte("---"))
		rest = bytes.TrimSpace(rest)
		bad := isSeparator && len(rest) > 0 && rest[0] != '#'
		switch {
		case bad:
			errs = append(errs, &InvalidError{Line: line,
				Reason: "kubeadm accepts only a comment after the --- between two documents"})
			end()
		case isSeparator && len(text) > 0:
			end()
		default:
			// Keep the separator, too: if nothing follows it, kubeadm refuses the
			// document that it begins.
			text = append(text, l...)
		}
	}
	line++
	end()
	return docs, errors.Join(errs...)
}

// parse reads a document that begins at a line of the file.
func parse(text []byte, line int) (*document, []error) {
	d := &document{line: line}
	locate := yamlv3.NewDecoder(bytes.NewReader(text))
	var node, second yamlv3.Node
	if locate.Decode(&node) == nil && len(node.Content) == 1 {
		d.root = node.Content[0]
	}
	var err error
	if d.root == nil { // cannot be searched for duplicate keys
		d.json, err = yaml.YAMLToJSONStrict(text)
	} else {
		d.json, err = yaml.YAMLToJSON(text)
	}
	if err != nil {
		return d, d.yamlErrors(err)
	}
	var meta metav1.TypeMeta
	if json.UnmarshalCaseSensitivePreserveInts(d.json, &meta) == nil {
		if gv, err := schema.ParseGroupVersion(meta.APIVersion); err == nil {
			d.GroupVersionKind = gv.WithKind(meta.Kind)
		}
	}
	if d.root != nil && !errors.Is(locate.Decode(&second), io.EOF) {
		return d, []error{
			&InvalidError{
				Kind: d.Kind, Line: line, Reason: "it contains the start of another document, which kubeadm would " +
					"ignore",
				Suggestion: "start each with a line that is only ---",
			},
		}
	}
	if d.Group == "" || d.Version == "" || d.Kind == "" {
		return d, []error{&InvalidError{Line: d.first(), Reason: "apiVersion and kind do not identify the document"}}
	}
	if d.Group != kubeadm.GroupName {
		return d, nil
	}
	return d, d.repeated(d.root)
}

// repeated finds duplicate keys. What a merge key (<<) brings may be overridden.
func (d *document) repeated(n *yamlv3.Node) []error {
	if n == nil {
		return nil
	}
	var errs []error
	firsts := map[string]int{}
	for i, c := range n.Content {
		errs = append(errs, d.repeated(c)...)
		if n.Kind != yamlv3.MappingNode || i%2 != 0 || c.Kind != yamlv3.ScalarNode {
			continue
		}
		line := d.line + c.Line - 1
		if first := firsts[c.Value]; first > 0 {
			errs = append(errs, &InvalidError{Kind: d.Kind, Line: line,
				Reason: fmt.Sprintf("duplicate key %s; the first is on line %d", c.Value, first)})
		}
		firsts[c.Value] = line
	}
	return errs
}

// first is the line of the document's first content.
func (d *document) first() int {
	// The parser places an empty document after all lines.
	if d.root == nil || d.root.Kind == yamlv3.ScalarNode && d.root.Value == "" {
		return d.line
	}
	return d.line + d.root.Line - 1
}

// decode reads the document strictly into a type of kubeadm's API: unknown fields are errors.
func (d *document) decode(into any) []error {
	strict, err := json.UnmarshalStrict(d.json, into)
	if err != nil {
		return []error{d.typeError(err)}
	}
	var errs []error
	for _, err := range strict {
		e := &InvalidError{Kind: d.Kind, Line: d.first(), Reason: err.Error()}
		var field json.FieldError
		if errors.As(err, &field) {
			e.Line, e.Field = d.lineOf(field.FieldPath()), field.FieldPath()
			e.Reason = fmt.Sprintf("%s has no such field", d.GroupVersion())
		}
		errs = append(errs, e)
	}
	return errs
}

// typeError says where a value cannot be read.
func (d *document) typeError(err error) error {
	e := &InvalidError{Kind: d.Kind, Line: d.first(), Reason: err.Error()}
	var wrong *encoding.UnmarshalTypeError
	if errors.As(err, &wrong) {
		kind, _, _ := strings.Cut(wrong.Value, " ")
		e.Field, e.Reason = wrong.Field, fmt.Sprintf("is of type %s, but must be %s",
			kind, typeName(wrong.Type.String()))
		if wrong.Type.Kind().String() == "string" && (kind == "number" || kind == "bool") {
			e.Suggestion = "put the value in quotes"
		}
		if n := d.misfit(wrong.Field, kind); n != nil {
			e.Line = d.line + n.Line - 1
		}
		return e
	}
	// A type with its own parser, such as a duration, quotes what it could not read.
	for n := range scalars(d.root) {
		if n.Value != "" && strings.Contains(e.Reason, strconv.Quote(n.Value)) {
			e.Line = d.line + n.Line - 1
			break
		}
	}
	return e
}

// typeName returns a Go type in YAML's words.
func typeName(t string) string {
	switch {
	case strings.HasPrefix(t, "[]"):
		return "a list"
	case strings.HasPrefix(t, "map["):
		return "a mapping"
	case strings.Contains(t, "."): // of a package: a struct, or a kind of string
		if strings.HasSuffix(t, "Type") || strings.HasSuffix(t, "Policy") || strings.HasSuffix(t, "Method") {
			return "string"
		}
		return "a mapping"
	}
	return t
}

// lineInError is how YAML's errors name a line of the text.
var lineInError = regexp.MustCompile(`line (\d+): ([^\n]*)`)

// yamlErrors returns what is not valid YAML, with lines of the file.
func (d *document) yamlErrors(err error) []error {
	var errs []error
	for _, m := range lineInError.FindAllStringSubmatch(err.Error(), -1) {
		if n, err := strconv.Atoi(m[1]); err == nil {
			errs = append(errs, &InvalidError{Kind: d.Kind, Line: d.line + n - 1, Reason: m[2]})
		}
	}
	if errs == nil {
		errs = append(errs, &InvalidError{Kind: d.Kind, Line: d.first(), Reason: err.Error()})
	}
	return errs
}
