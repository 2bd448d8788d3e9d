package manifests

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// writer makes up manifests as people and tools write them.
type writer struct{ *rand.Rand }

func (w writer) pick(options ...string) string { return options[w.IntN(len(options))] }

func (w writer) item(s string) string {
	switch w.IntN(8) {
	case 0:
		return "'" + s + "'"
	case 1:
		return `"` + s + `"`
	case 2:
		return `"` + strings.Replace(s, "-", `\x2d`, 1) + `"`
	case 3:
		return "!!str '" + s + "'"
	}
	return s
}

func (w writer) items() []string {
	var items []string
	for range w.IntN(5) {
		name := w.pick("a", "b", "data-dir", "é")
		switch w.IntN(4) {
		case 0:
			items = append(items, "-"+name, w.pick("x", "/v", "a=b"))
		case 1:
			items = append(items, "--"+name)
		default:
			items = append(items, w.pick("-", "--")+name+"="+w.pick("1", "", "/v", "a=b", "x:y"))
		}
	}
	return items
}

func (w writer) list(indent string, items []string) string {
	if w.IntN(3) == 0 {
		var b strings.Builder
		for i, item := range items {
			if i > 0 {
				b.WriteString(w.pick(",", ", ", " ,", ",\n"+indent+"   ", ", # c\n"+indent+"   "))
			}
			b.WriteString(w.item(item))
		}
		return " [" + w.pick("", " ") + b.String() + w.pick("", " ", ",", "\n"+indent+"  ") +
			"]" + w.pick("", " # c") + "\n"
	}
	var b strings.Builder
	b.WriteString(w.pick("", " # c") + "\n")
	for _, item := range items {
		b.WriteString(w.pick("", "", "\n", indent+"# c\n", "# c\n"))
		if w.IntN(8) == 0 {
			fmt.Fprintf(&b, "%s- %s\n%s  %s\n", indent, w.pick(">-", "|-"), indent, item)
			continue
		}
		b.WriteString(indent + w.pick("- ", "- ", "-   ", "-\t", "-\n"+indent+"  ") +
			w.item(item) + w.pick("", "", " ", " # c", "\t# 'c") + "\n")
	}
	return b.String()
}

func (w writer) manifest() string {
	s := w.pick("", "# c\n", "---\n") + "apiVersion: v1\nkind: Pod\nmetadata:\n" +
		w.pick("", "  # c\n") + "  name: etcd" + w.pick("", " # c") + "\n"
	s += w.pick("", "  annotations: {}\n", "  annotations:\n", "  annotations: {a: b}\n",
		"  annotations:\n    # c\n    a: 'b' # c\n", "  annotations:\n    a: |\n      b\n      c\n",
		"  annotations:\n    a: b\n\n    \"c\": d\n    e: >\n      f\n",
		"  annotations: {a: b, \"c\": \"d\", # c\n    e: f}\n", "  annotations: ~ # c\n")
	s += "spec:\n  containers:\n  - name: etcd\n    command:" + w.list(w.pick("    ", "      "),
		append([]string{"etcd"}, w.items()...))
	if args := w.items(); len(args) > 0 {
		s += "    args:" + w.list("    ", args)
	}
	s += w.pick("", "    image: e\n", "# c\n")
	if w.IntN(4) == 0 {
		s = strings.TrimSuffix(s, "\n")
	}
	if w.IntN(4) == 0 {
		s = strings.ReplaceAll(s, "\n", "\r\n")
	}
	return s
}

func TestRandomEditsOfRandomManifestsDoJustWhatTheySay(t *testing.T) {
	w := writer{rand.New(rand.NewPCG(1, 2))}
	done, refused := map[string]int{}, map[string]int{}
	for range 4000 {
		m, err := Parse([]byte(w.manifest()))
		if err != nil {
			continue
		}
		name, value := w.pick("a", "b", "data-dir", "new"),
			w.pick("", "1", "true", "a b", "x,y", "it's", `"`, "- #", "é\n\t", "\u200b", "$(A)")
		_, hadFlag := m.Flag("etcd", name)
		_, hadAnnotation := m.Annotation(name)
		for kind, edit := range map[string]struct {
			do, undo step
			holds    func(*Manifest) bool
			had      bool
		}{
			"set": {set(name, value), remove(name),
				func(m *Manifest) bool { v, ok := m.Flag("etcd", name); return ok && v == value }, hadFlag},
			"remove": {remove(name), nil, func(m *Manifest) bool { _, ok := m.Flag("etcd", name); return !ok }, true},
			"rename": {rename(name, "renamed", value), nil, func(m *Manifest) bool {
				_, stays := m.Flag("etcd", name)
				v, ok := m.Flag("etcd", "renamed")
				return !stays && ok && v == value
			}, true},
			"annotate": {annotate(name, value), func(m *Manifest) (*Manifest, error) {
				return m.RemoveAnnotation(name)
			},
				func(m *Manifest) bool { v, ok := m.Annotation(name); return ok && v == value },
				hadAnnotation || len(m.pod.annotations.entries) == 0},
		} {
			edited, err := edit.do(m)
			if err != nil {
				refused[kind]++
				if strings.Contains(err.Error(), "would be refused") ||
					strings.Contains(err.Error(), "more than it should") {
					t.Errorf("%v in\n%s", err, m.Bytes())
				}
				continue
			}
			done[kind]++
			agreesWithKubelet(t, edited)
			if !edit.holds(edited) {
				t.Errorf("%s %s=%q did not take:\n%s", kind, name, value, edited.Bytes())
			}
			if n := changedLines(m.Bytes(), edited.Bytes()); kind == "set" && n > 3 ||
				kind == "set" && hadFlag && n > 1 {
				t.Errorf("%d lines changed:\n%s\n%s", n, m.Bytes(), edited.Bytes())
			}
			if edit.had {
				continue
			}
			undone, err := edit.undo(edited)
			if err != nil || !bytes.Equal(undone.Bytes(), m.Bytes()) {
				t.Errorf("%s %s=%q undone (%v):\n%q\n%q", kind, name, value, err, m.Bytes(), edited.Bytes())
			}
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("done %v, refused %v", done, refused)
	for _, kind := range []string{"set", "remove", "annotate"} {
		if done[kind] < 1000 {
			t.Errorf("only %d edits of the kind %q could be done", done[kind], kind)
		}
	}
}
