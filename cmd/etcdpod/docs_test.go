package main

import (
	"fmt"
	"path/filepath"
	"reflect"
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

// TestDocsSayWhatTheProgramSays compares docs/commands.md with the help and with the names in
// the JSON. With -update it writes the file, so that renaming something that programs read
// shows up in the diff.
func TestDocsSayWhatTheProgramSays(t *testing.T) {
	golden(t, filepath.Join("..", "..", "docs", "commands.md"), reference())
}

func reference() string {
	var b strings.Builder
	app := (&session{}).app()
	b.WriteString("# Commands\n\nMade from the program by `make docs`: every section " +
		"is what `etcdpod help COMMAND` writes.\n")
	fmt.Fprintf(&b, "\n```\n%s```\n", helpOf(app, nil))
	for _, c := range app.Commands {
		if !c.Hidden {
			fmt.Fprintf(&b, "\n## %s\n\n```\n%s```\n", c.Name, helpOf(app, c))
		}
	}
	b.WriteString("\n## JSON\n\nWhat scripts can rely on is in [json.md](json.md), with a schema of each output. " +
		"Here what is\nmarked with ? is left out when it is empty.\n")
	for _, r := range results() {
		fmt.Fprintf(&b, "\n**%s**\n\n```\n", r.what)
		shape(&b, reflect.TypeOf(r.value), "")
		b.WriteString("```\n")
	}
	return b.String()
}

func helpOf(app *cli.App, c *cli.Command) string {
	b := page{width: helpColumns}
	writeHelpOf(&b, app, c)
	return b.String()
}

type result struct {
	what  string
	value any
}

func results() []result {
	return []result{
		{"status", status.Status{}},
		{"status --nodes", status.NodesStatus{}},
		{"backup: the result; without the targets, the file beside the snapshot", backup.Result{}},
		{"backups: a list of", backup.Entry{}},
		{"fetch", backup.Fetched{}},
		{"target check", backup.TargetReport{}},
		{"verify", backup.Verdict{}},
		{"rehearse", rehearse.Report{}},
		{"restore, certs renew, apiserver set, resume, rollback: the result; runs: a list of", engine.RunSummary{}},
		{"runs show; with --follow, as the result", engine.RunReport{}},
		{"certs check", certs.Report{}},
		{"certs generate-csr: the result", certs.Requests{}},
		{"apiserver show", apiserver.Report{}},
		{"apiserver show --nodes", apiserver.NodesReport{}},
		{"members", members.Listing{}},
		{"members move-leader", members.Move{}},
		{"members set-peer-url", members.PeerChange{}},
		{"defrag", defrag.Report{}},
		{"upgrade plan", upgrade.Report{}},
		{"downgrade cancel", upgrade.Cancel{}},
		{"prune", prune.Plan{}},
		{"--dry-run of backup, restore, certs renew, certs generate-csr and apiserver set", engine.Plan{}},
		{"--dry-run of a run on several nodes", engine.TogetherPlan{}},
		{"version", build{}},
		{"an event", engine.Event{}},
		{"an error", failure{}},
	}
}

// shape writes the names in a type's JSON, each with the kind of its value.
func shape(b *strings.Builder, t reflect.Type, indent string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			shape(b, f.Type, indent)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || !f.IsExported() {
			continue
		}
		if strings.Contains(options, "omit") {
			name += "?"
		}
		kind, inner := kindOf(f.Type)
		fmt.Fprintf(b, "%s%s: %s\n", indent, name, kind)
		if inner != nil {
			shape(b, inner, indent+"  ")
		}
	}
}

// kindOf names a type in JSON's words, and returns the object inside it, if there is one.
func kindOf(t reflect.Type) (kind string, object reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer:
		return kindOf(t.Elem())
	case reflect.Slice:
		kind, object := kindOf(t.Elem())
		return "list of " + kind, object
	case reflect.Map:
		kind, object := kindOf(t.Elem())
		return kind + " by name", object
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return "time", nil
		}
		return "object", t
	case reflect.String:
		return "string", nil
	case reflect.Bool:
		return "true or false", nil
	}
	return "number", nil
}

// A field without a JSON name would appear under its Go name.
func TestEveryResultNamesItsFieldsInJSON(t *testing.T) {
	var check func(reflect.Type)
	check = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.IsExported() && !f.Anonymous &&
				(name == "" || name[0] < 'a' || name[0] > 'z' || strings.ContainsAny(name, "_-")) {
				t.Errorf("%s.%s is %q in JSON, not camelCase", typ, f.Name, name)
			}
			if _, object := kindOf(f.Type); object != nil && f.IsExported() {
				check(object)
			}
		}
	}
	for _, r := range results() {
		check(reflect.TypeOf(r.value))
	}
}
