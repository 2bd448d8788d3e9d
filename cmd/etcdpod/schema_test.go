package main

import (
	"bytes"
	"encoding"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/defrag"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/prune"
	"github.com/etcdpod/etcdpod/phases/rehearse"
	"github.com/etcdpod/etcdpod/phases/status"
	"github.com/etcdpod/etcdpod/phases/upgrade"
)

// resultOf is the last line of a command that shows events.
type resultOf[T any] struct {
	Result   T                `json:"result"`
	Findings []engine.Finding `json:"findings,omitempty"` // what is wrong although it is done
}

// document is one file of docs/schema.
type document struct {
	name, about string
	describes   reflect.Type
}

func documents() []document {
	of := func(name, about string, value any) document { return document{name, about, reflect.TypeOf(value)} }
	return []document{
		of("status", "What `status` writes", status.Status{}),
		of("status-nodes", "What `status --nodes` writes", status.NodesStatus{}),
		of("backup", "The last line of `backup`", resultOf[backup.Result]{}),
		{"sidecar", "The file beside a snapshot", reflect.TypeOf(backup.SidecarOf).Out(0).Elem()},
		of("backups", "What `backups` writes", []backup.Entry{}),
		of("fetch", "What `fetch` writes", backup.Fetched{}),
		of("target-check", "What `target check` writes", backup.TargetReport{}),
		of("verify", "What `verify` writes", backup.Verdict{}),
		of("rehearse", "What `rehearse` writes", rehearse.Report{}),
		of("run", "The last line of `restore`, `init`, `join`, their phases, `remove`, `replace`, `readdress`, "+
			"`upgrade`, `downgrade`, `certs renew`, `apiserver set`, `resume` and `rollback`",
			resultOf[engine.RunSummary]{}),
		of("runs", "What `runs` writes", []engine.RunSummary{}),
		of("runs-show", "What `runs show` writes", engine.RunReport{}),
		of("runs-show-follow", "The last line of `runs show --follow`", resultOf[engine.RunReport]{}),
		of("certs-check", "What `certs check` writes", certs.Report{}),
		of("certs-generate-csr", "The last line of `certs generate-csr`", resultOf[certs.Requests]{}),
		of("apiserver-show", "What `apiserver show` writes", apiserver.Report{}),
		of("apiserver-show-nodes", "What `apiserver show --nodes` writes", apiserver.NodesReport{}),
		of("members", "What `members` writes", members.Listing{}),
		of("members-move-leader", "What `members move-leader` writes", members.Move{}),
		of("members-set-peer-url", "What `members set-peer-url` writes", members.PeerChange{}),
		of("defrag", "What `defrag` writes", defrag.Report{}),
		of("upgrade-plan", "What `upgrade plan` writes", upgrade.Report{}),
		of("downgrade-cancel", "What `downgrade cancel` writes", upgrade.Cancel{}),
		of("prune", "What `prune` writes", prune.Plan{}),
		of("plan", "What --dry-run writes, for a run on one node", engine.Plan{}),
		of("plan-nodes", "What --dry-run writes, for a run on several nodes, and always for `remove`, `replace`, "+
			"`upgrade` and `downgrade`", engine.TogetherPlan{}),
		of("version", "What `version` writes", build{}),
		of("event", "A line before the last of a command that carries out a run", engine.Event{}),
		of("error", "The last line on standard error of a command that failed", failure{}),
	}
}

// notInJSON write something of their own.
var notInJSON = []string{"help", "completion", "man", "units"}

func TestDocsSayOfEachCommandWhatItWritesInJSON(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "json.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## Which command writes what")
	table, _, _ = strings.Cut(table, "\n## ")
	var each func(before string, all []*cli.Command)
	each = func(before string, all []*cli.Command) {
		for _, c := range all {
			name := before + c.Name
			each(name+" ", c.Subcommands)
			if c.Action == nil || c.Hidden || slices.Contains(notInJSON, strings.Fields(name)[0]) {
				continue
			}
			if of, _, isOne := strings.Cut(name, " phase "); isOne { // all phases write the same
				name = of + " phase"
			}
			if !strings.Contains(table, "`"+name+"`") && !strings.Contains(table, "`"+name+" --") {
				t.Errorf("docs/json.md does not say what `%s` writes", name)
			}
		}
	}
	each("", (&session{}).commands())
}

// TestDocsHaveASchemaOfEachOutput compares docs/schema with the types of the program. With -update
// it writes the files, so that renaming something that programs read shows up in the diff.
func TestDocsHaveASchemaOfEachOutput(t *testing.T) {
	dir := filepath.Join("..", "..", "docs", "schema")
	files := map[string]bool{}
	source := newSource(t)
	for _, d := range documents() {
		files[d.name+".json"] = true
		golden(t, filepath.Join(dir, d.name+".json"), schemaOf(t, source, d))
	}
	page, err := os.ReadFile(filepath.Join(dir, "..", "json.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range files {
		if !strings.Contains(string(page), "["+name+"](schema/"+name+")") {
			t.Errorf("docs/json.md does not say what %s describes", name)
		}
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range there {
		if !files[f.Name()] {
			t.Errorf("docs/schema/%s describes nothing", f.Name())
		}
	}
}

func schemaOf(t *testing.T, source source, d document) string {
	t.Helper()
	r := reflector{t: t, source: source, defs: map[string]object{}, names: map[string]reflect.Type{}}
	root := object{{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", d.about}}
	if d.describes.Kind() == reflect.Struct {
		root = append(root, r.structure(d.describes)...)
	} else {
		root = append(root, r.schema(d.describes, "")...)
	}
	if len(r.defs) > 0 {
		var defs object
		for _, name := range slices.Sorted(maps.Keys(r.defs)) {
			defs = append(defs, member{name, r.defs[name]})
		}
		root = append(root, member{"$defs", defs})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := e.Encode(m.name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := e.Encode(m.value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// reflector makes the schema of a type.
type reflector struct {
	t      *testing.T
	source source
	defs   map[string]object
	names  map[string]reflect.Type // of what is in defs
}

// schema describes the values of a type; values are those that a string may have, separated by
// commas.
func (r *reflector) schema(typ reflect.Type, values string) object {
	switch {
	case typ == reflect.TypeFor[time.Time]():
		return object{{"type", "string"}, {"format", "date-time"}}
	case typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return object{{"type", "string"}}
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return r.schema(typ.Elem(), values)
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			return object{{"type", "string"}, {"contentEncoding", "base64"}}
		}
		return object{{"type", "array"}, {"items", r.schema(typ.Elem(), values)}}
	case reflect.Map:
		return object{{"type", "object"}, {"additionalProperties", r.schema(typ.Elem(), values)}}
	case reflect.Struct:
		return object{{"$ref", "#/$defs/" + r.define(typ)}}
	case reflect.Bool:
		return object{{"type", "boolean"}}
	case reflect.Float64:
		return object{{"type", "number"}}
	case reflect.Int, reflect.Int64:
		return object{{"type", "integer"}}
	case reflect.Uint32:
		return object{{"type", "integer"}, {"minimum", 0}}
	case reflect.String:
		return r.text(typ, values)
	}
	r.t.Fatalf("there is no schema for %s", typ)
	return nil
}

// text is a string.
func (r *reflector) text(typ reflect.Type, values string) object {
	if values != "" {
		return oneOf(strings.Split(values, ","))
	}
	if len(r.source.constants(typ)) > 0 {
		return object{{"$ref", "#/$defs/" + r.define(typ)}}
	}
	return object{{"type", "string"}}
}

// oneOf is a string that has one of a few values. Later versions may have more of them, and what
// they write is to be good by this schema, too.
func oneOf(values []string) object {
	return object{{"type", "string"}, {"anyOf", []object{{{"enum", values}}, {}}}}
}

// define makes a definition of a type, and returns its name.
func (r *reflector) define(typ reflect.Type) string {
	name := defName(typ)
	if had, there := r.names[name]; there {
		if had != typ {
			r.t.Fatalf("%s and %s are both called %s", had, typ, name)
		}
		return name
	}
	r.names[name] = typ
	if typ.Kind() == reflect.String {
		r.defs[name] = append(r.described(typ), oneOf(r.source.constants(typ))...)
	} else {
		r.defs[name] = r.structure(typ)
	}
	return name
}

func (r *reflector) described(typ reflect.Type) object {
	if about := r.source.about(typ); about != "" {
		return object{{"description", about}}
	}
	return object{}
}

func defName(typ reflect.Type) string {
	if typ == reflect.TypeFor[certs.Status]() { // next to that of a node
		return "certificateStatus"
	}
	return strings.ToLower(typ.Name()[:1]) + typ.Name()[1:]
}

// structure describes a struct as encoding/json writes it.
func (r *reflector) structure(typ reflect.Type) object {
	var properties object
	required := []string{}
	r.fields(typ, &properties, &required)
	return append(r.described(typ),
		member{"type", "object"}, member{"properties", properties}, member{"required", required})
}

func (r *reflector) fields(typ reflect.Type, properties *object, required *[]string) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Anonymous {
			r.fields(f.Type, properties, required)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		s := object{}
		if about := r.source.aboutField(typ, f.Name); about != "" {
			s = append(s, member{"description", about})
		}
		*properties = append(*properties, member{name, append(s, r.schema(f.Type, f.Tag.Get("values"))...)})
		switch optional := strings.Contains(options, "omit"); {
		case !optional && f.Type.Kind() == reflect.Pointer:
			r.t.Errorf("%s.%s may be null: let it be left out", typ, f.Name)
		case !optional:
			*required = append(*required, name)
		}
	}
}

// sentence is a comment as a sentence that stands alone.
func sentence(text string) string {
	text = strings.NewReplacer("The JSON names are stable.", "", "Its field names are stable.", "",
		"The JSON names are stable; those", "The names", "[", "", "]", "").Replace(text)
	text = strings.Join(strings.Fields(text), " ")
	if text == "" {
		return ""
	}
	if !strings.HasPrefix(text, "etcd") {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	return strings.TrimSuffix(text, ".") + "."
}
