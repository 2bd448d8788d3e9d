// Package schema holds what etcdpod writes with -o json to the schemas in docs/schema, more
// strictly than they are: what they do not name must not be there.
package schema

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// Check holds what a command wrote to the schemas. It has nothing to say of one that was not asked
// for JSON. code is the exit code; -1 if a signal ended it.
func Check(args []string, stdout, stderr string, code int) error {
	command, asked := read(args)
	if !asked {
		return nil
	}
	result, streams := resultOf(command, args)
	ended, errs := checkLines(result, streams, stdout, code)
	if failed := lastLine(stderr); strings.HasPrefix(failed, "{") {
		ended++
		errs = append(errs, Hold("error", failed))
		if !strings.Contains(failed, fmt.Sprintf(`"exitCode":%d}`, code)) {
			errs = append(errs, fmt.Errorf("it ended with %d and says %s", code, failed))
		}
	}
	if code >= 0 && ended != 1 {
		errs = append(errs, fmt.Errorf("it ended with %d, and wrote %d results and errors:\n%s%s",
			code, ended, stdout, stderr))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%q: %w", args, err)
	}
	return nil
}

// checkLines holds each line of standard output to its schema, and counts the results.
func checkLines(result string, streams bool, stdout string, code int) (results int, errs []error) {
	for line := range strings.Lines(stdout) {
		whole := strings.HasSuffix(line, "\n")
		switch {
		case results > 0:
			errs = append(errs, fmt.Errorf("after the result it wrote %s", line))
		case !whole && code < 0: // it was killed
		case !whole:
			errs = append(errs, fmt.Errorf("this line has no end: %s", line))
		case streams && !strings.HasPrefix(line, `{"result":`):
			errs = append(errs, Hold("event", line))
		case result == "plan" && strings.HasPrefix(line, `{"nodes":`):
			results++
			errs = append(errs, Hold("plan-nodes", line))
		default:
			results++
			errs = append(errs, Hold(result, line))
		}
	}
	return results, errs
}

// read returns the command in what was typed, and whether it was asked for JSON.
func read(args []string) (command string, asked bool) {
	var words []string
	for i, arg := range args {
		switch {
		case arg == "json" && i > 0 && (args[i-1] == "-o" || args[i-1] == "--output"),
			arg == "--output=json", arg == "-o=json":
			asked = true
		case !strings.HasPrefix(arg, "-"):
			words = append(words, arg)
		}
	}
	for i, word := range words {
		switch word {
		case "certs", "apiserver":
			return strings.Join(words[i:min(i+2, len(words))], " "), asked
		case "members":
			if i+1 < len(words) && slices.Contains([]string{"move-leader", "set-peer-url"}, words[i+1]) {
				return strings.Join(words[i:i+2], " "), asked
			}
			return word, asked
		case "upgrade":
			if i+1 < len(words) && words[i+1] == "plan" {
				return "upgrade plan", asked
			}
			return word, asked
		case "target":
			return strings.Join(words[i:min(i+2, len(words))], " "), asked
		case "downgrade":
			if i+1 < len(words) && words[i+1] == "cancel" {
				return "downgrade cancel", asked
			}
			return word, asked
		case "runs":
			if i+1 < len(words) && words[i+1] == "show" {
				return "runs show", asked
			}
			return word, asked
		case "status", "backup", "backups", "verify", "fetch", "rehearse", "restore",
			"init", "join", "readdress", "remove", "replace",
			"resume", "rollback", "prune", "version", "defrag":
			return word, asked
		}
	}
	return strings.Join(words, " "), asked
}

// resultOf names the schema of what a command ends with, and says whether events come before it.
func resultOf(command string, args []string) (name string, streams bool) {
	has := func(flag string) bool {
		return slices.ContainsFunc(args, func(arg string) bool {
			return arg == flag || strings.HasPrefix(arg, flag+"=")
		})
	}
	switch command {
	case "status":
		if has("--nodes") {
			return "status-nodes", false
		}
		return command, false
	case "apiserver show":
		if has("--nodes") {
			return "apiserver-show-nodes", false
		}
		return "apiserver-show", false
	case "backups", "verify", "fetch", "rehearse", "runs", "prune", "version", "certs check",
		"target check", "members", "members move-leader", "members set-peer-url", "defrag", "upgrade plan",
		"downgrade cancel":
		return strings.ReplaceAll(command, " ", "-"), false
	case "runs show":
		if has("--follow") || has("-f") {
			return "runs-show-follow", true
		}
		return "runs-show", false
	}
	switch {
	case has("--dry-run"):
		return "plan", false
	case command == "backup", command == "certs generate-csr":
		return strings.ReplaceAll(command, " ", "-"), true
	case slices.Contains([]string{"restore", "init", "join", "readdress", "remove", "replace", "upgrade", "downgrade",
		"resume", "rollback", "certs renew", "apiserver set"}, command):
		return "run", true
	}
	return "", false
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// Hold holds one JSON value to the schema of that name.
func Hold(name, text string) error {
	all, err := compiled()
	if err != nil {
		return err
	}
	if all[name] == nil {
		return fmt.Errorf("there is no docs/schema/%s.json for %s", name, text)
	}
	if err := validate(all[name], text); err != nil {
		return fmt.Errorf("this is not as docs/schema/%s.json has it: %w\n%s", name, err, text)
	}
	return nil
}

func validate(schema *jsonschema.Schema, text string) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// compiled are all schemas, as strict as we are.
var compiled = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	module, err := binaries.ModuleRoot()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(module, "docs", "schema", "*.json"))
	if err != nil {
		return nil, err
	}
	all := map[string]*jsonschema.Schema{}
	for _, file := range files {
		if all[strings.TrimSuffix(filepath.Base(file), ".json")], err = compile(file, closed); err != nil {
			return nil, fmt.Errorf("cannot use %s: %w", file, err)
		}
	}
	return all, nil
})

// asCommitted is a schema as others use it.
func asCommitted(name string) (*jsonschema.Schema, error) {
	module, err := binaries.ModuleRoot()
	if err != nil {
		return nil, err
	}
	return compile(filepath.Join(module, "docs", "schema", name+".json"), func(any) {})
}

func compile(file string, change func(any)) (*jsonschema.Schema, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	change(schema)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(file, schema); err != nil {
		return nil, err
	}
	return c.Compile(file)
}

// closed takes out of a schema what it leaves to later versions: properties that it does not name,
// and further values where it names some.
func closed(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		if _, named := s["properties"].(map[string]any); named {
			s["additionalProperties"] = false
		}
		if known, open := s["anyOf"].([]any); open {
			s["anyOf"] = known[:1]
		}
		for _, inner := range s {
			closed(inner)
		}
	case []any:
		for _, inner := range s {
			closed(inner)
		}
	}
}
