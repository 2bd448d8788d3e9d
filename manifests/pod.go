package manifests

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// pod is what etcdpod reads of a Pod. It keeps nodes where an edit needs a value's place.
type pod struct {
	name, namespace string
	labels          map[string]string
	hostNetwork     bool
	metadata        *yaml.Node
	annotationsKey  *yaml.Node // nil if there is no such key
	annotations     mapping
	containers      []container
	volumes         []volume
}

type container struct {
	name          string
	init          bool
	line          int
	image         *yaml.Node   // nil if there is none
	pull          string       // imagePullPolicy; empty if none is given
	startup, live *yaml.Node   // probes; nil if there are none
	ready         *yaml.Node   // likewise
	command, args []*yaml.Node // the items
	lists         [2]*yaml.Node
	env           []variable
	envFrom       bool // it has more variables, from elsewhere
	mounts        []Mount
}

type variable struct {
	name, value string
	from        bool // the value comes from somewhere else
}

type volume struct {
	name     string
	hostPath *yaml.Node // the path; nil if the volume is of another kind
	kind     string
}

type field struct{ key, value *yaml.Node }

// mapping is a YAML mapping that etcdpod reads, its entries by name.
type mapping struct {
	node    *yaml.Node
	entries map[string]field
}

func (f mapping) get(key string) *yaml.Node { return f.entries[key].value }

func readPod(root *yaml.Node) (pod, error) {
	top, err := readMapping(root, "the document")
	if err != nil {
		return pod{}, err
	}
	for key, want := range map[string]string{"apiVersion": "v1", "kind": "Pod"} {
		got, err := readString(top.get(key), key)
		switch {
		case err != nil:
			return pod{}, err
		case got == "":
			return pod{}, refusal(root.Line, "no %s; a static-pod manifest holds one v1 Pod", key)
		case got != want:
			return pod{}, refusal(top.get(key).Line, "%s is %q; a static-pod manifest holds one v1 Pod", key, got)
		}
	}
	var p pod
	if err := p.readMetadata(top); err != nil {
		return pod{}, err
	}
	return p, p.readSpec(root, top)
}

func (p *pod) readMetadata(top mapping) error {
	metadata, err := readMapping(top.get("metadata"), "metadata")
	if err != nil {
		return err
	}
	p.metadata = metadata.node
	if p.name, err = readString(metadata.get("name"), "metadata.name"); err != nil {
		return err
	}
	if p.name == "" {
		return refusal(lineOf(top.get("metadata")), "a Pod without a name")
	}
	if p.namespace, err = readString(metadata.get("namespace"), "metadata.namespace"); err != nil {
		return err
	}
	labels, err := readStrings(metadata.get("labels"), "metadata.labels")
	if err != nil {
		return err
	}
	p.labels = map[string]string{}
	for key, f := range labels.entries {
		p.labels[key] = f.value.Value
	}
	p.annotationsKey = metadata.entries["annotations"].key
	p.annotations, err = readStrings(metadata.get("annotations"), "metadata.annotations")
	return err
}

func (p *pod) readSpec(root *yaml.Node, top mapping) error {
	spec, err := readMapping(top.get("spec"), "spec")
	if err != nil {
		return err
	}
	if p.hostNetwork, err = readBool(spec.get("hostNetwork"), "spec.hostNetwork"); err != nil {
		return err
	}
	lines := map[string]int{}
	for _, list := range []string{"initContainers", "containers"} {
		items, err := readList(spec.get(list), "spec."+list)
		if err != nil {
			return err
		}
		for _, item := range items {
			c, err := readContainer(item)
			if err != nil {
				return err
			}
			if line, ok := lines[c.name]; ok {
				return refusal(c.line, "duplicate container %q, first on line %d", c.name, line)
			}
			lines[c.name] = c.line
			c.init = list == "initContainers"
			p.containers = append(p.containers, c)
		}
		if list == "containers" && len(items) == 0 {
			return refusal(root.Line, "a Pod without containers")
		}
	}
	return p.readVolumes(spec.get("volumes"))
}

func (p *pod) readVolumes(n *yaml.Node) error {
	items, err := readList(n, "spec.volumes")
	if err != nil {
		return err
	}
	lines := map[string]int{}
	for _, item := range items {
		fields, err := readMapping(item, "a volume")
		if err != nil {
			return err
		}
		var v volume
		if v.name, err = readName(fields, "a volume"); err != nil {
			return err
		}
		if line, ok := lines[v.name]; ok {
			return refusal(item.Line, "duplicate volume %q, first on line %d", v.name, line)
		}
		lines[v.name] = item.Line
		host, err := readMapping(fields.get("hostPath"), "hostPath")
		if err != nil {
			return err
		}
		if path, err := readString(host.get("path"), "hostPath.path"); err != nil {
			return err
		} else if path != "" {
			v.hostPath = host.get("path")
		}
		if v.kind, err = readString(host.get("type"), "hostPath.type"); err != nil {
			return err
		}
		p.volumes = append(p.volumes, v)
	}
	return nil
}

func readContainer(n *yaml.Node) (container, error) {
	fields, err := readMapping(n, "a container")
	if err != nil {
		return container{}, err
	}
	c := container{line: n.Line}
	if c.name, err = readName(fields, "a container"); err != nil {
		return c, err
	}
	if image, err := readString(fields.get("image"), "image"); err != nil {
		return c, err
	} else if image != "" {
		c.image = fields.get("image")
	}
	if c.pull, err = readString(fields.get("imagePullPolicy"), "imagePullPolicy"); err != nil {
		return c, err
	}
	c.startup, c.live, c.ready = fields.get("startupProbe"), fields.get("livenessProbe"), fields.get("readinessProbe")
	for i, list := range []string{"command", "args"} {
		items, err := readList(fields.get(list), list)
		if err != nil {
			return c, err
		}
		for _, item := range items {
			if err := checkString(item, "an item of "+list); err != nil {
				return c, err
			}
		}
		c.lists[i] = fields.get(list)
		if i == 0 {
			c.command = items
		} else {
			c.args = items
		}
	}
	c.envFrom = !isNull(fields.get("envFrom"))
	if err := c.readEnv(fields.get("env")); err != nil {
		return c, err
	}
	return c, c.readMounts(fields.get("volumeMounts"))
}

func (c *container) readEnv(n *yaml.Node) error {
	items, err := readList(n, "env")
	if err != nil {
		return err
	}
	for _, item := range items {
		fields, err := readMapping(item, "a variable")
		if err != nil {
			return err
		}
		v := variable{from: !isNull(fields.get("valueFrom"))}
		if v.name, err = readName(fields, "a variable"); err != nil {
			return err
		}
		if v.value, err = readString(fields.get("value"), "the value of a variable"); err != nil {
			return err
		}
		c.env = append(c.env, v)
	}
	return nil
}

func (c *container) readMounts(n *yaml.Node) error {
	items, err := readList(n, "volumeMounts")
	if err != nil {
		return err
	}
	for _, item := range items {
		fields, err := readMapping(item, "a mount")
		if err != nil {
			return err
		}
		t := Mount{Container: c.name}
		if t.volume, err = readName(fields, "a mount"); err != nil {
			return err
		}
		var expression string
		for _, f := range []struct {
			key string
			to  *string
		}{
			{"mountPath", &t.Path}, {"subPath", &t.SubPath},
			{"subPathExpr", &expression}, {"mountPropagation", &t.Propagation},
		} {
			if *f.to, err = readString(fields.get(f.key), f.key); err != nil {
				return err
			}
		}
		t.expression = expression != ""
		if t.ReadOnly, err = readBool(fields.get("readOnly"), "readOnly"); err != nil {
			return err
		}
		c.mounts = append(c.mounts, t)
	}
	return nil
}

func readName(fields mapping, what string) (string, error) {
	name, err := readString(fields.get("name"), "the name of "+what)
	if err == nil && name == "" {
		return "", refusal(fields.node.Line, "%s without a name", what)
	}
	return name, err
}

// checkShape refuses nodes shared with another place: an edit here would change that, too.
func checkShape(n *yaml.Node, kind yaml.Kind, what, want string) error {
	switch {
	case n.Kind == yaml.AliasNode, n.Anchor != "":
		return refusal(n.Line, "%s uses a YAML anchor or alias, which cannot be edited safely", what)
	case n.Kind != kind:
		return refusal(n.Line, "%s is not %s", what, want)
	}
	return nil
}

func checkString(n *yaml.Node, what string) error {
	if err := checkShape(n, yaml.ScalarNode, what, "a string"); err != nil {
		return err
	}
	if n.ShortTag() != "!!str" {
		return refusal(n.Line, "%s is not a string; quote it", what)
	}
	return nil
}

// The readers take null for absent, as the kubelet does.

func readString(n *yaml.Node, what string) (string, error) {
	if isNull(n) {
		return "", nil
	}
	if err := checkString(n, what); err != nil {
		return "", err
	}
	return n.Value, nil
}

// readBool also accepts YAML 1.1's words, as the kubelet's parser does.
func readBool(n *yaml.Node, what string) (bool, error) {
	if isNull(n) {
		return false, nil
	}
	if err := checkShape(n, yaml.ScalarNode, what, "true or false"); err != nil {
		return false, err
	}
	if n.Style&^yaml.TaggedStyle == 0 {
		switch strings.ToLower(n.Value) {
		case "true", "yes", "on", "y":
			return true, nil
		case "false", "no", "off", "n":
			return false, nil
		}
	}
	return false, refusal(n.Line, "%s is not true or false", what)
}

func readList(n *yaml.Node, what string) ([]*yaml.Node, error) {
	if isNull(n) {
		return nil, nil
	}
	return n.Content, checkShape(n, yaml.SequenceNode, what, "a list")
}

func readMapping(n *yaml.Node, what string) (mapping, error) {
	m := mapping{node: n, entries: map[string]field{}}
	if isNull(n) {
		return m, nil
	}
	if err := checkShape(n, yaml.MappingNode, what, "a mapping"); err != nil {
		return m, err
	}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.ShortTag() == "!!merge" {
			return m, refusal(key.Line, "%s uses a YAML merge, which cannot be edited safely", what)
		}
		if err := checkShape(key, yaml.ScalarNode, fmt.Sprintf("a key of %s", what), "a simple value"); err != nil {
			return m, err
		}
		m.entries[key.Value] = field{key, n.Content[i+1]}
	}
	return m, nil
}

func readStrings(n *yaml.Node, what string) (mapping, error) {
	m, err := readMapping(n, what)
	if err != nil {
		return m, err
	}
	for i := 1; n != nil && i < len(n.Content); i += 2 {
		if err := checkString(n.Content[i], "a value of "+what); err != nil {
			return m, err
		}
	}
	return m, nil
}

func lineOf(n *yaml.Node) int {
	if n == nil {
		return 1
	}
	return n.Line
}
