package manifests

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// FlagValue is one flag on a container's command line.
type FlagValue struct {
	Name  string // without dashes in front, and as the program reads it
	Value string // as written: Expand fills in the environment; "true" for a bare flag
	Bare  bool   // written without a value
	Line  int
}

// flag also knows its place in the manifest.
type flag struct {
	FlagValue
	item  *yaml.Node
	value *yaml.Node // the next item, if the value is an item of its own
}

// wrappers start the program that their own command line names further on, so that its flags cannot
// be told from theirs. A shell script can take any form at all.
var wrappers = []string{"sh", "bash", "dash", "ash", "busybox",
	"env", "nice", "ionice", "tini", "dumb-init", "catatonit", "kube-log-runner", "go-runner"}

// Containers returns the names of the containers, without the init containers.
func (m *Manifest) Containers() []string {
	var names []string
	for _, c := range m.pod.containers {
		if !c.init {
			names = append(names, c.name)
		}
	}
	return names
}

// Runs finds the container that runs a program, given by its base name ("etcd"): the one whose
// command (args if there is no command) begins with it; else, in a pod with the label
// component=<program>, the one of that name whose image says what to run; else one in which a shell
// or another wrapper mentions it; else, by that label, the container with the program's name, or
// the only one. kubeadm puts the label on each of its pods (cmd/kubeadm/app/util/staticpod). A
// proxy in front of etcd is a subcommand of the same binary, and is none.
func (m *Manifest) Runs(program string) (name string, ok bool) {
	labelled := m.pod.labels["component"] == program
	for _, is := range []func(*container) bool{
		func(c *container) bool { return !c.wrapped() && c.runs(program) },
		func(c *container) bool { return labelled && c.name == program && len(c.command) == 0 && !c.proxy() },
		func(c *container) bool { return c.wrapped() && c.runs(program) },
	} {
		for i := range m.pod.containers {
			if c := &m.pod.containers[i]; !c.init && is(c) {
				return c.name, true
			}
		}
	}
	if !labelled {
		return "", false
	}
	names := m.Containers()
	if slices.Contains(names, program) {
		return program, !m.find(program).proxy()
	}
	return names[0], len(names) == 1 && !m.find(names[0]).proxy()
}

func (c *container) argv() []*yaml.Node { return slices.Concat(c.command, c.args) }

func (c *container) runs(program string) bool {
	argv := c.argv()
	if len(argv) == 0 || c.proxy() {
		return false
	}
	if !c.wrapped() {
		return path.Base(argv[0].Value) == program
	}
	for _, item := range argv[1:] {
		for _, word := range words(item.Value) {
			if word == program || strings.HasSuffix(word, "bin/"+program) { // not /var/lib/etcd
				return true
			}
		}
	}
	return false
}

// proxies are the subcommands of etcd that keep no data (server/etcdmain/main.go). They come before
// all flags.
var proxies = []string{"grpc-proxy", "gateway"}

// Proxies says whether a pod runs a proxy in front of an etcd: it has no data, but may remember
// what the etcd behind it once said.
func (m *Manifest) Proxies() bool {
	return slices.ContainsFunc(m.pod.containers, func(c container) bool { return !c.init && c.proxy() })
}

// proxy says whether a container runs one of them: as etcd's first argument or, in a script, as the
// word after etcd.
func (c *container) proxy() bool {
	argv, before := c.argv(), ""
	switch {
	case len(argv) == 0:
		return false
	case c.wrapped():
	case path.Base(argv[0].Value) == "etcd":
		return len(argv) > 1 && slices.Contains(proxies, argv[1].Value)
	default: // the image says that it is etcd's
		return len(c.command) == 0 && slices.Contains(proxies, argv[0].Value) &&
			c.image != nil && strings.Contains(c.image.Value, "etcd")
	}
	for _, item := range argv {
		for _, word := range words(item.Value) {
			if path.Base(before) == "etcd" && slices.Contains(proxies, word) {
				return true
			}
			before = word
		}
	}
	return false
}

// words are the words of a piece of a shell script.
func words(script string) []string {
	return strings.FieldsFunc(script, func(r rune) bool { return strings.ContainsRune(" \t\r\n;&|()'\"`", r) })
}

func (c *container) wrapped() bool {
	argv := c.argv()
	return len(argv) > 0 && slices.Contains(wrappers, path.Base(argv[0].Value))
}

// Wrapped says that a shell or another wrapper starts the container's program: to this package it
// then has no flags, and none can be set.
func (m *Manifest) Wrapped(container string) bool {
	c := m.find(container)
	return c != nil && c.wrapped()
}

// Flags returns all flags of a container, from command and then args, in order, repeated ones
// included. A flag without "=" takes the next item as its value, unless there is none or it begins
// with a dash: then the flag is bare.
func (m *Manifest) Flags(container string) []FlagValue {
	var values []FlagValue
	if c := m.find(container); c != nil {
		for _, f := range c.flags() {
			values = append(values, f.FlagValue)
		}
	}
	return values
}

// Flag returns the value of a flag, named without dashes. If there are several, the last counts, as
// for single values in package flag and in pflag; for flags that accumulate, use Flags.
func (m *Manifest) Flag(container, name string) (value string, ok bool) {
	if c := m.find(container); c != nil {
		if f, ok := c.lastFlag(name); ok {
			return f.Value, true
		}
	}
	return "", false
}

func (m *Manifest) find(name string) *container {
	for i := range m.pod.containers {
		if c := &m.pod.containers[i]; c.name == name && !c.init {
			return c
		}
	}
	return nil
}

func (c *container) flags() []flag {
	argv := c.argv()
	if c.wrapped() {
		return nil
	}
	if len(c.command) > 0 {
		argv = argv[1:]
	}
	var flags []flag
	for i := 0; i < len(argv) && argv[i].Value != "--"; i++ {
		item := argv[i]
		name, value, written := strings.Cut(undash(item.Value), "=")
		if name == "" || !strings.HasPrefix(item.Value, "-") {
			continue
		}
		if c.kubernetes() {
			name = strings.ReplaceAll(name, "_", "-")
		}
		f := flag{FlagValue: FlagValue{Name: name, Value: value, Line: item.Line}, item: item}
		switch {
		case written:
		case i+1 < len(argv) && !strings.HasPrefix(argv[i+1].Value, "-"):
			i++
			f.value, f.Value = argv[i], argv[i].Value
		default:
			f.Bare, f.Value = true, "true"
		}
		flags = append(flags, f)
	}
	return flags
}

// kubernetes says whether a container runs one of Kubernetes' own programs, which take _ for - in
// the names of flags (k8s.io/component-base/cli/flag: WordSepNormalizeFunc). etcd does not.
func (c *container) kubernetes() bool {
	if len(c.command) > 0 {
		return strings.HasPrefix(path.Base(c.command[0].Value), "kube-")
	}
	return strings.HasPrefix(c.name, "kube-") || c.image != nil && strings.HasPrefix(path.Base(c.image.Value), "kube-")
}

func undash(s string) string { return strings.TrimPrefix(strings.TrimPrefix(s, "-"), "-") }

func (c *container) lastFlag(name string) (flag, bool) {
	flags := c.flags()
	for i := len(flags) - 1; i >= 0; i-- {
		if flags[i].Name == name {
			return flags[i], true
		}
	}
	return flag{}, false
}

var flagName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// SetFlag sets a flag. If it exists, the occurrence that counts changes in place, and keeps its
// form and quoting; else the flag is added after the last one, in its style. SetFlag refuses
// wrapped containers, and items that are block scalars or span lines.
func (m *Manifest) SetFlag(container, name, value string) (*Manifest, error) {
	edited, err := m.setFlag(container, name, value)
	if err != nil {
		return nil, fmt.Errorf("cannot set flag --%s of container %s: %w", name, container, err)
	}
	return edited, nil
}

func (m *Manifest) setFlag(container, name, value string) (*Manifest, error) {
	c, err := m.editable(container, name)
	if err != nil {
		return nil, err
	}
	e := m.edit()
	f, ok := c.lastFlag(name)
	switch {
	case ok && f.Value == value:
		return m, nil
	case ok && f.value != nil:
		err = e.replace(f.value, value)
	case ok:
		written := strings.TrimSuffix(f.item.Value, "="+f.Value)
		err = e.replace(f.item, written+"="+value)
	default:
		err = e.addFlag(c, name, value)
	}
	if err != nil {
		return nil, err
	}
	edited, err := e.apply()
	if err != nil {
		return nil, err
	}
	if got, ok := edited.Flag(container, name); !ok || got != value {
		return nil, fmt.Errorf("it would be read back as %q", got)
	}
	return edited, sameOthers(m, edited, container, name)
}

func (e *edit) addFlag(c *container, name, value string) error {
	flags := c.flags()
	if len(flags) == 0 {
		argv := c.argv()
		if len(argv) == 0 {
			return refusal(c.line, "it has neither command nor args to add to")
		}
		last := argv[len(argv)-1]
		return e.addItems(c.listOf(last), last, last.Style, "--"+name+"="+value)
	}
	last := flags[len(flags)-1]
	dashes := last.item.Value[:len(last.item.Value)-len(undash(last.item.Value))]
	if last.value != nil {
		return e.addItems(c.listOf(last.value), last.value, last.item.Style, dashes+name, value)
	}
	return e.addItems(c.listOf(last.item), last.item, last.item.Style, dashes+name+"="+value)
}

func (c *container) listOf(item *yaml.Node) *yaml.Node {
	if slices.Contains(c.args, item) {
		return c.lists[1]
	}
	return c.lists[0]
}

// SetFlagOnce gives a flag one value, however often it was given.
func (m *Manifest) SetFlagOnce(container, name, value string) (*Manifest, error) {
	times := 0
	for _, f := range m.Flags(container) {
		if f.Name == name {
			times++
		}
	}
	if times > 1 {
		var err error
		if m, err = m.RemoveFlag(container, name); err != nil {
			return nil, err
		}
	}
	return m.SetFlag(container, name, value)
}

// RenameFlag gives a flag another name and value, in its place. If it occurs more than once, it
// goes, and the other one is added after the last flag. It refuses if that one is there already.
func (m *Manifest) RenameFlag(container, name, to, value string) (*Manifest, error) {
	edited, err := m.renameFlag(container, name, to, value)
	if err != nil {
		return nil, fmt.Errorf("cannot write flag --%s of container %s as --%s: %w", name, container, to, err)
	}
	return edited, nil
}

func (m *Manifest) renameFlag(container, name, to, value string) (*Manifest, error) {
	c, err := m.editable(container, name)
	if err != nil {
		return nil, err
	}
	if !flagName.MatchString(to) {
		return nil, fmt.Errorf("no flag has such a name")
	}
	if _, ok := c.lastFlag(to); ok {
		return nil, fmt.Errorf("that one is there, too")
	}
	var found []flag
	for _, f := range c.flags() {
		if f.Name == name {
			found = append(found, f)
		}
	}
	if len(found) != 1 {
		if m, err = m.removeFlag(container, name); err != nil {
			return nil, err
		}
		return m.setFlag(container, to, value)
	}
	f, e := found[0], m.edit()
	dashes := f.item.Value[:len(f.item.Value)-len(undash(f.item.Value))]
	if f.value != nil {
		err = e.replace(f.item, dashes+to)
		if err == nil && f.Value != value {
			err = e.replace(f.value, value)
		}
	} else {
		err = e.replace(f.item, dashes+to+"="+value)
	}
	if err != nil {
		return nil, err
	}
	edited, err := e.apply()
	if err != nil {
		return nil, err
	}
	if got, ok := edited.Flag(container, to); !ok || got != value {
		return nil, fmt.Errorf("it would be read back as %q", got)
	}
	return edited, sameOthers(m, edited, container, name, to)
}

// RemoveFlag removes every occurrence of a flag, with its line if it has one to itself. A
// missing flag is no error.
func (m *Manifest) RemoveFlag(container, name string) (*Manifest, error) {
	edited, err := m.removeFlag(container, name)
	if err != nil {
		return nil, fmt.Errorf("cannot remove flag --%s of container %s: %w", name, container, err)
	}
	return edited, nil
}

func (m *Manifest) removeFlag(container, name string) (*Manifest, error) {
	c, err := m.editable(container, name)
	if err != nil {
		return nil, err
	}
	var gone [2][]*yaml.Node
	for _, f := range c.flags() {
		if f.Name != name {
			continue
		}
		for _, item := range []*yaml.Node{f.item, f.value} {
			if item == nil {
				continue
			}
			i := slices.Index(c.lists[:], c.listOf(item))
			gone[i] = append(gone[i], item)
		}
	}
	e := m.edit()
	for i, items := range gone {
		if len(items) == 0 {
			continue
		}
		if err := e.removeItems(c.lists[i], items); err != nil {
			return nil, err
		}
	}
	edited, err := e.apply()
	if err != nil {
		return nil, err
	}
	if _, ok := edited.Flag(container, name); ok {
		return nil, fmt.Errorf("what surrounds it would be read as this flag")
	}
	return edited, sameOthers(m, edited, container, name)
}

// sameOthers checks that the neighbours of an edited flag still mean the same: a lone item can
// become another flag's value.
func sameOthers(before, after *Manifest, container string, names ...string) error {
	others := func(m *Manifest) []FlagValue {
		flags := slices.DeleteFunc(m.Flags(container), func(f FlagValue) bool { return slices.Contains(names, f.Name) })
		for i := range flags {
			flags[i].Line = 0
		}
		return flags
	}
	if !slices.Equal(others(before), others(after)) {
		return fmt.Errorf("another flag would be read differently")
	}
	return nil
}

func (m *Manifest) editable(in, name string) (*container, error) {
	c := m.find(in)
	switch {
	case c == nil:
		return nil, fmt.Errorf("the pod has no such container")
	case !flagName.MatchString(name):
		return nil, fmt.Errorf("no flag has such a name")
	case c.wrapped():
		return nil, refusal(c.argv()[0].Line,
			"%s starts the program, and its flags cannot be distinguished from the wrapper's", c.argv()[0].Value)
	}
	return c, nil
}
