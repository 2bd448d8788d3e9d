package manifests

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// podOf puts a container's fields into a manifest. Its container begins on line 7.
func podOf(container string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata:\n  name: etcd\nspec:\n  containers:\n  - name: etcd\n" + container
}

func TestWhatIsNotOnePodIsRefusedWithItsLine(t *testing.T) {
	good := podOf("    command: [etcd]\n")
	for _, tt := range []struct{ name, text, want string }{
		{"an empty file", "", "line 1: empty"},
		{"only a comment", "# nothing\n", "line 1: empty"},
		{"only a document start", "---\n", "empty"},
		{"a second Pod", good + "---\n" + good, "line 10: a second document"},
		{"a Pod behind an empty document", "---\n---\n" + good, "empty"},
		{"a List", "apiVersion: v1\nkind: List\nitems: []\n", `line 2: kind is "List"`},
		{"another kind", "apiVersion: v1\nkind: Service\n", `line 2: kind is "Service"`},
		{"another version", "# old\napiVersion: v1beta3\nkind: Pod\n", `line 2: apiVersion is "v1beta3"`},
		{"no kind", "apiVersion: v1\n", "line 1: no kind"},
		{"a list at the top", "- a\n", "line 1: the document is not a mapping"},
		{"a Pod without a name", "apiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {containers: [{name: a}]}\n",
			"line 3: a Pod without a name"},
		{"a Pod without containers", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}\n",
			"line 1: a Pod without containers"},
		{"a container without a name",
			"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - image: b\n",
			"line 6: a container without a name"},
		{"two containers of one name", good + "  - name: etcd\n", `line 9: duplicate container "etcd", first on line ` +
			`7`},
		{"a key given twice", good + "    image: a\n    image: b\n", `line 10: duplicate key "image", first on line 9`},
		{"a key given twice where nobody looks", good + "    resources: {limits: {cpu: 1, cpu: 2}}\n",
			`line 9: duplicate key "cpu", first on line 9`},
		{"a number for a flag", podOf("    command:\n    - etcd\n    - 2379\n"),
			"line 10: an item of command is not a string"},
		{"nothing for a flag", podOf("    command:\n    - etcd\n    -\n"),
			"line 10: an item of command is not a string"},
		{"a mapping for a flag", podOf("    command:\n    - etcd\n    - --name: a\n"),
			"line 10: an item of command is not a string"},
		{"a string for a list", podOf("    command: etcd\n"), "line 8: command is not a list"},
		{"an alias for the command", podOf("    resources: &r [etcd]\n    command: *r\n"),
			"line 9: command uses a YAML anchor or alias"},
		{"an anchor on a flag", podOf("    command:\n    - etcd\n    - &a --name=a\n"),
			"line 10: an item of command uses a YAML anchor"},
		{"a merge in a container", podOf("    resources: &r {}\n    <<: *r\n"),
			"line 9: a container uses a YAML merge"},
		{"an alias for a volume", good + "  x: &v {name: v}\n  volumes:\n  - *v\n",
			"line 11: a volume uses a YAML anchor or alias"},
		{"an alias to itself", "apiVersion: v1\nkind: Pod\nmetadata: &m\n  name: *m\n",
			"line 3: metadata uses a YAML anchor"},
		{"an unknown alias", good + "    image: *x\n", "unknown anchor"},
		{"a tab for indentation", "apiVersion: v1\nkind: Pod\nmetadata:\n\tname: a\n", "line "},
		{"broken YAML", "apiVersion: v1\nkind: [\n", "line "},
		{"broken JSON", `{"apiVersion": "v1"`, "line "},
		{"bytes that are not UTF-8", "apiVersion: v1\nkind: \xff\n", "line 2: not UTF-8"},
		{"UTF-16", "\xff\xfea\x00", "line 1: not UTF-8"},
		{"a NUL", "apiVersion: v1\x00\n", "line "},
		{"a carriage return alone", "apiVersion: v1\rkind: Pod\n", "line 1: a line break (U+000D)"},
		{"a line separator of Unicode", "apiVersion: v1\nkind: \"a\u2028b\"\n", "line 2: a line break (U+2028)"},
		{"more than a mebibyte", good + strings.Repeat("#", MaxSize), "line 1: the file has "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.text))
			if err == nil || !strings.HasPrefix(err.Error(), "line ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestOnePodIsReadHoweverItsDocumentBeginsAndEnds(t *testing.T) {
	good := podOf("    command: [etcd]\n    livenessProbe: &p {httpGet: {port: 1}}\n    startupProbe: *p\n")
	for name, text := range map[string]string{
		"bare": good, "a start": "---\n" + good, "a comment and a start": "# a\n\n---\n" + good,
		"an end": good + "...\n", "an end that starts another": good + "---\n",
		"an end and a comment": good + "---\n# end\n", "a byte order mark": byteOrderMark + good,
		"a directive": "%YAML 1.1\n---\n" + good,
	} {
		t.Run(name, func(t *testing.T) {
			m := parse(t, text)
			if string(m.Bytes()) != text || m.Name() != "etcd" || m.Namespace() != "default" {
				t.Errorf("got %s in %s:\n%s", m.Name(), m.Namespace(), m.Bytes())
			}
			edited, err := m.SetImage("etcd", "e:2")
			if err == nil {
				t.Errorf("set the image of a container that has none:\n%s", edited.Bytes())
			}
			edited, err = m.SetFlag("etcd", "name", "a")
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Replace(text, "[etcd]", "[etcd, --name=a]", 1); string(edited.Bytes()) != want {
				t.Errorf("got:\n%s", edited.Bytes())
			}
		})
	}
}

func TestHostileTextCostsLittleTime(t *testing.T) {
	bomb := podOf("    a0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 12; i++ {
		bomb += fmt.Sprintf("    a%d: &a%d [%s]\n",
			i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	for name, text := range map[string]string{
		"an alias bomb":     bomb,
		"deep brackets":     strings.Repeat("[", MaxSize),
		"deep braces":       strings.Repeat("{a: ", MaxSize/4),
		"deep dashes":       strings.Repeat("- ", MaxSize/2),
		"deep indentation":  deepIndentation(),
		"many documents":    strings.Repeat("---\n", MaxSize/4),
		"a long comment":    strings.Repeat("#\n", MaxSize/2),
		"many keys":         manyKeys(),
		"many flags":        podOf("    command:\n    - etcd\n" + strings.Repeat("    - --a=b\n", MaxSize/12-10)),
		"many quotes":       strings.Repeat("'", MaxSize),
		"question marks":    strings.Repeat("? ", MaxSize/2),
		"many anchors":      strings.Repeat("- &a b\n", MaxSize/7),
		"a very long value": podOf("    image: " + strings.Repeat("a", MaxSize-100) + "\n"),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			if m, err := Parse([]byte(text)); err == nil {
				if _, err := m.SetFlag("etcd", "b", "c"); err != nil &&
					!strings.Contains(err.Error(), "neither command nor args") {
					t.Error(err)
				}
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			} else if took > 500*time.Millisecond {
				t.Logf("took %v", took)
			}
		})
	}
}

func deepIndentation() string {
	var b strings.Builder
	for i := 0; b.Len()+i+3 < MaxSize; i++ {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func manyKeys() string {
	var b strings.Builder
	for i := 0; b.Len() < MaxSize-20; i++ {
		fmt.Fprintf(&b, "k%d: 1\n", i)
	}
	return b.String()
}

func TestTheProgramIsFoundByItsCommandElseByItsLabel(t *testing.T) {
	const labelled = "apiVersion: v1\nkind: Pod\nmetadata: {name: x, labels: {component: etcd}}\nspec:\n  containers:\n"
	for _, tt := range []struct {
		name, text, container string
		ok, wrapped           bool
	}{
		{"command", podOf("    command: [etcd, --name=a]\n"), "etcd", true, false},
		{"a path", podOf("    command: [/usr/local/bin/etcd]\n"), "etcd", true, false},
		{"args without a command", podOf("    args: [etcd]\n"), "etcd", true, false},
		{"args behind another command", podOf("    command: [sleep]\n    args: [etcd]\n"), "", false, false},
		{"another program of a like name", podOf("    command: [etcdctl]\n"), "", false, false},
		{"a shell", podOf("    command: [/bin/sh, -c, 'exec etcd --name=a']\n"), "etcd", true, true},
		{"a shell with a script of several lines", podOf("    command: [sh, -c]\n    args:\n    - |\n      set -e\n" +
			"      exec /bin/etcd \\\n        --name=a\n"), "etcd", true, true},
		{"an init", podOf("    command: [tini, --, etcd, --name=a]\n"), "etcd", true, true},
		{"a shell that mentions etcd's data",
			podOf("    command: [sh, -c, 'ls /var/lib/etcd; x --data-dir=/var/lib/etcd']\n"), "", false, true},
		{"the label, with a container of the name", labelled + "  - name: side\n  - name: etcd\n", "etcd", true, false},
		{"the label, with one container", labelled + "  - name: main\n    command: [run-it]\n", "main", true, false},
		{"the label, and it is anyone's guess which", labelled + "  - name: a\n  - name: b\n", "", false, false},
		{"no container says so", podOf("    image: etcd\n"), "", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := parse(t, tt.text)
			container, ok := m.Runs("etcd")
			if ok != tt.ok || ok && container != tt.container {
				t.Errorf("got %q, %v", container, ok)
			}
			if got := m.Wrapped(m.Containers()[0]); got != tt.wrapped {
				t.Errorf("wrapped is %v", got)
			}
			if !tt.wrapped {
				return
			}
			if got := m.Flags("etcd"); got != nil {
				t.Errorf("flags of a wrapped program: %v", got)
			}
			if _, err := m.SetFlag("etcd", "name", "b"); err == nil || !strings.Contains(err.Error(), "line ") {
				t.Errorf("set a flag of a wrapped program: %v", err)
			}
			if _, err := m.RemoveFlag("etcd", "name"); err == nil {
				t.Error("removed a flag of a wrapped program")
			}
		})
	}
}

func TestFlagsAreReadInEveryForm(t *testing.T) {
	m := parse(t, podOf(`    command:
    - etcd
    - --name=a
    - -data-dir
    - /d
    - --pre-vote
    - --equals=a=b
    - --empty=
    - positional
    args:
    - --name=b # the last one wins
    - "--quoted=\u00e9 \"x\""
    - >-
      --folded=a
      b
    - --last
    - --
    - --not-a-flag
`))
	var got []string
	for _, f := range m.Flags("etcd") {
		got = append(got, fmt.Sprintf("%d %s=%s %v", f.Line, f.Name, f.Value, f.Bare))
	}
	want := []string{
		"10 name=a false", "11 data-dir=/d false", "13 pre-vote=true true",
		"14 equals=a=b false", "15 empty= false", "18 name=b false",
		"19 quoted=é \"x\" false", "20 folded=a b false", "23 last=true true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if v, ok := m.Flag("etcd", "name"); !ok || v != "b" {
		t.Errorf("name is %q, %v", v, ok)
	}
	if v, ok := m.Flag("etcd", "not-a-flag"); ok {
		t.Errorf("a flag behind -- reads as %q", v)
	}
	if v, ok := m.Flag("nobody", "name"); ok || m.Flags("nobody") != nil {
		t.Errorf("a container that is not there has a flag: %q", v)
	}
}

func TestKubernetesProgramsTakeUnderscoresForDashesAndEtcdDoesNot(t *testing.T) {
	for container, want := range map[string]string{
		"    command: [/usr/local/bin/kube-apiserver, --etcd_servers=a, --v=2]\n":            "etcd-servers",
		"    image: registry.k8s.io/kube-apiserver:v1.37.2\n    args: [--etcd_servers, a]\n": "etcd-servers",
		"    command: [etcd, --etcd_servers=a]\n":                                            "etcd_servers",
		"    image: registry.k8s.io/etcd:3.6.5-0\n    args: [--etcd_servers=a]\n":            "etcd_servers",
	} {
		m := parse(t, podOf(container))
		if v, ok := m.Flag("etcd", want); !ok || v != "a" || len(m.Flags("etcd")) == 0 {
			t.Errorf("%s: %s is %q, %v", container, want, v, ok)
		}
		if edited, err := m.SetFlag("etcd", want, "b"); err != nil ||
			!strings.Contains(string(edited.Bytes()), "--etcd_servers") {
			t.Errorf("%s: %v", container, err)
		}
	}
}

func TestWhatCannotBeEditedAsTextIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		edit       step
		want       string
	}{
		{"a flag in a block scalar", podOf("    command:\n    - etcd\n    - >-\n      --name=a\n"),
			set("name", "b"), "line 10: a value that is tagged, or written as a block"},
		{"a flag over two lines", podOf("    command:\n    - etcd\n    - --name=a\n      b\n"),
			set("name", "b"), "line 10: a value that is"},
		{"a tagged flag", podOf("    command:\n    - etcd\n    - !!str --name=a\n"),
			set("name", "b"), "line 10: a value that is tagged"},
		{"the only flag of a list", podOf("    command: [etcd]\n    args: [--name=a]\n"),
			remove("name"), "line 9: the list would be left empty"},
		{"a flag that keeps another from taking what follows",
			podOf("    command: [etcd, --bare, --name=a, positional]\n"),
			remove("name"), "another flag would be read differently"},
		{"a comment between items of a flow list", podOf("    command: [etcd,  # here\n      --name=a]\n"),
			remove("name"), "more than a comma beside it"},
		{"no command line at all", podOf("    image: a\n"), set("name", "b"),
			"line 7: it has neither command nor args"},
		{"no such container", strings.Replace(podOf("    image: a\n"), "- name: etcd", "- name: other", 1),
			set("name", "b"), "no such container"},
		{"a name with an equals sign", podOf("    command: [etcd]\n"), set("a=b", "c"), "no flag has such a name"},
		{"a name with dashes before it", podOf("    command: [etcd]\n"), set("--a", "c"), "no flag has such a name"},
		{"a value of its own that would read as a flag", podOf("    args: [--name, a]\n"),
			set("name", "-b"), "would be read back as"},
		{"a value that is not UTF-8", podOf("    args: [--name=a]\n"), set("name", "\xff"), "not UTF-8"},
		{"an annotation without a name", podOf("    args: [--name=a]\n"), annotate("", "a"), "its name is empty"},
		{"an empty image", podOf("    image: a\n"), image(""), "empty"},
		{"a host path that is not absolute", podOf("    image: a\n"),
			func(m *Manifest) (*Manifest, error) { return m.SetHostPath("v", "a") }, "not absolute"},
		{"a host path of a volume that is not there", podOf("    image: a\n"),
			func(m *Manifest) (*Manifest, error) { return m.SetHostPath("v", "/a") }, "no hostPath volume"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := parse(t, tt.text)
			_, err := tt.edit(m)
			if err == nil || !strings.HasPrefix(err.Error(), "cannot ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if string(m.Bytes()) != tt.text {
				t.Error("the manifest changed")
			}
		})
	}
}
