//go:build e2e

package bootstrap

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// page is a page that a test follows: its commands are typed, and its files written. What nobody
// has typed or written at the end is an error.
type page struct {
	name  string
	lines []string // the commands
	files []*file
	typed map[string]bool
}

// file is a block on the page. The paragraph above it says whose it is, and what it is called.
type file struct {
	above, text string
	written     bool
}

// follow begins to follow a page, or one section of it; but for sections that another test follows.
func follow(t *testing.T, name, section string, but ...string) *page {
	t.Helper()
	p := &page{name: name, typed: map[string]bool{}}
	text := read(t, "../../docs/"+name)
	if section != "" {
		_, after, found := strings.Cut(text, "\n## "+section+"\n")
		if !found {
			t.Fatalf("%s has no section %s", name, section)
		}
		text, _, _ = strings.Cut(after, "\n## ")
	}
	for _, other := range but {
		before, rest, found := strings.Cut(text, "\n## "+other+"\n")
		if !found {
			t.Fatalf("%s has no section %s", name, other)
		}
		_, after, _ := strings.Cut(rest, "\n## ")
		text = before + "\n## " + after
	}
	var last string // paragraph
	var open *file
	begins := true // a paragraph, with the next line
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		command, indented := strings.CutPrefix(line, "    ")
		switch {
		case strings.HasPrefix(line, "```") && open == nil:
			open = &file{above: last}
			p.files = append(p.files, open)
		case strings.HasPrefix(line, "```"):
			open, begins = nil, true
		case open != nil:
			open.text += line + "\n"
		case indented:
			p.lines = append(p.lines, command)
		case line == "":
			begins = true
		case begins:
			last, begins = line, false
		default:
			last += " " + line
		}
	}
	return p
}

// writes writes a file of the page on a node. The configurations of kubeadm and of the kubelet get
// what the rig's machines need besides.
func (k *cluster) writes(p *page, n *rig.Node, path, above string) {
	k.Helper()
	for _, f := range p.files {
		if !strings.Contains(f.above, "`"+path+"`") || !strings.Contains(f.above, above) {
			continue
		}
		f.written = true
		text := k.real(f.text)
		if strings.Contains(text, "kind: ") {
			merged, err := merge(text, n.KubeadmConfiguration())
			k.Must(err)
			text = merged
		}
		k.write(n, path, text)
		return
	}
	k.Fatalf("%s has no %s of %s", p.name, path, above)
}

// types types a command of the page on a node, and holds it to the exit code.
func (k *cluster) types(p *page, n *rig.Node, command string, code int) string {
	k.Helper()
	if !slices.Contains(p.lines, command) {
		k.Fatalf("%s has no command %q", p.name, command)
	}
	p.typed[command] = true
	got, out := 0, ""
	k.timed(n.Name+": "+command, func() { got, out = k.try(n, k.real(k.ignoring(command))) })
	if got != code {
		k.Fatalf("%s: %q ends with %d, not %d:\n%s", n.Name, command, got, code, out)
	}
	return out
}

// agrees types a command of the page, and yes.
func (k *cluster) agrees(p *page, n *rig.Node, command string) (out string) {
	k.Helper()
	if !slices.Contains(p.lines, command) {
		k.Fatalf("%s has no command %q", p.name, command)
	}
	k.timed(n.Name+": "+command, func() { out = k.shell(n, command+" --yes 2>&1") })
	return out
}

// starting is the command of the page that begins so.
func (k *cluster) starting(p *page, prefix string) string {
	k.Helper()
	i := slices.IndexFunc(p.lines, func(l string) bool { return strings.HasPrefix(l, prefix) })
	if i < 0 {
		k.Fatalf("%s has no command that begins with %q", p.name, prefix)
	}
	return p.lines[i]
}

// ends holds the page to having been followed wholly.
func (k *cluster) ends(p *page) {
	k.Helper()
	for _, line := range p.lines {
		if !p.typed[line] {
			k.Errorf("%s: nobody has typed %q", p.name, line)
		}
	}
	for _, f := range p.files {
		if !f.written {
			k.Errorf("%s: nobody has written the file below %q", p.name, f.above)
		}
	}
}

// foreign is what kubeadm's preflight has against the rig's machines, which
// share the host's kernel.
const foreign = "SystemVerification,NumCPU,Mem,Swap"

func (k *cluster) ignoring(command string) string {
	const flag = "--ignore-preflight-errors="
	switch {
	case strings.HasPrefix(command, "kubeadm upgrade apply"):
		// Whose preflight waits for a Job, which no machine without a pod network runs.
		return command + " --force " + flag + "all --skip-phases=preflight,addon"
	case strings.HasPrefix(command, "kubeadm upgrade node"):
		return command + " --skip-phases=preflight,addon"
	case strings.Contains(command, flag):
		return strings.Replace(command, flag, flag+foreign+",", 1)
	case strings.HasPrefix(command, "kubeadm init") || strings.HasPrefix(command, "kubeadm join"):
		return command + " " + flag + foreign
	}
	return command
}

// real replaces the page's addresses by those of the machines, and the hash of the CA that
// kubeadm init prints.
func (k *cluster) real(text string) string {
	k.Helper()
	words := []string{"10.0.0.10:6443", k.rig.Endpoint()}
	if strings.Contains(text, "sha256:HASH") {
		sum := sha256.Sum256(k.pair(k.node("cp1"), "ca").Leaf.RawSubjectPublicKeyInfo)
		words = append(words, "sha256:HASH", fmt.Sprintf("sha256:%x", sum))
	}
	for _, n := range k.rig.Nodes { // cp1 is 10.0.0.11, and etcd1 10.0.0.21
		number := strings.NewReplacer("cp", "1", "etcd", "2").Replace(n.Name)
		words = append(words, "10.0.0."+number, n.Address)
	}
	return strings.NewReplacer(words...).Replace(text)
}

// merge lays YAML documents over those of the same kind. Whoever inits a cluster
// configures its kubelets, too.
func merge(under, over string) (string, error) {
	documents, err := split(under)
	if err != nil {
		return "", err
	}
	more, err := split(over)
	if err != nil {
		return "", err
	}
	for _, d := range more {
		i := slices.IndexFunc(documents, func(u map[string]any) bool { return u["kind"] == d["kind"] })
		switch {
		case i >= 0:
			lay(documents[i], d)
		case d["kind"] == "KubeletConfiguration" && strings.Contains(under, "kind: InitConfiguration"):
			documents = append(documents, d)
		}
	}
	var texts []string
	for _, d := range documents {
		text, err := yaml.Marshal(d)
		if err != nil {
			return "", err
		}
		texts = append(texts, string(text))
	}
	return strings.Join(texts, "---\n"), nil
}

func split(text string) (documents []map[string]any, err error) {
	for _, part := range strings.Split(text, "\n---\n") {
		var d map[string]any
		if err := yaml.Unmarshal([]byte(part), &d); err != nil {
			return nil, err
		}
		documents = append(documents, d)
	}
	return documents, nil
}

func lay(under, over map[string]any) {
	for name, value := range over {
		above, both := value.(map[string]any)
		below, was := under[name].(map[string]any)
		if both && was {
			lay(below, above)
		} else {
			under[name] = value
		}
	}
}
