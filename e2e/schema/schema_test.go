package schema

import (
	"strings"
	"testing"
)

const (
	version = `{"version":"v1.2.3","go":"go1.26","platform":"linux/amd64","etcd":["3.6"],"kubernetes":["1.37"]}` + "\n"
	event   = `{"time":"2026-08-01T02:00:00Z","run":"r1","state":"note","message":"m","code":"kubelet-stopped",` +
		`"severity":"critical"}` + "\n"
	result = `{"result":{"id":"r1","workflow":"restore","command":["etcdpod"],"node":"cp1","state":"completed",` +
		`"began":"2026-08-01T02:00:00Z","last":"2026-08-01T02:00:00Z","committed":true,"aborted":false,` +
		`"path":"/r1"}}` + "\n"
	failed = `{"error":"e","exitCode":1}` + "\n"
)

func typed(line string) []string { return strings.Fields(line) }

func TestWhatIsAsTheSchemasHaveItIsTaken(t *testing.T) {
	for _, c := range []struct {
		args           []string
		stdout, stderr string
		code           int
	}{
		{typed("version -o json"), version, "", 0},
		{typed("--root /r version --output=json"), version, "", 0},
		{typed("restore b.db --yes -o json"), event + event + result, "", 0},
		{typed("restore b.db --yes -o json"), event, "a word\n" + failed, 1},
		{typed("restore b.db --yes -o json"), event + event[:20], "", -1},
		{typed("restor -o json"), "", strings.Replace(failed, "1}", "2}", 1), 2},
		{typed("version"), "etcdpod v1.2.3\n", "", 0},
	} {
		if err := Check(c.args, c.stdout, c.stderr, c.code); err != nil {
			t.Errorf("%q, %d: %v", c.args, c.code, err)
		}
	}
}

func TestWhatIsNotAsTheSchemasHaveItIsFound(t *testing.T) {
	const asked, restores = "version -o json", "restore b.db -o json"
	changed := func(text, from, to string) string { return strings.Replace(text, from, to, 1) }
	for what, c := range map[string]struct {
		line, stdout, stderr string
		code                 int
	}{
		"a property that is not in the schema": {asked, changed(version, `{`, `{"more":1,`), "", 0},
		"one that is missing":                  {asked, changed(version, `"go":"go1.26",`, ""), "", 0},
		"another type":                         {asked, changed(version, `"3.6"`, `3.6`), "", 0},
		"null":                                 {asked, changed(version, `["3.6"]`, `null`), "", 0},
		"a second line":                        {asked, version + version, "", 0},
		"nothing":                              {asked, "", "", 0},
		"half a line":                          {asked, strings.TrimSuffix(version, "\n"), "", 0},
		"text":                                 {asked, "etcdpod v1.2.3\n", "", 0},
		"a command without a schema":           {"versions -o json", version, "", 0},
		"no result":                            {restores, event, "", 0},
		"an event after the result":            {restores, result + event, "", 0},
		"a result and an error":                {restores, result, failed, 1},
		"another exit code":                    {restores, event, failed, 3},
		"a code that is in no table":           {restores, changed(event, "stopped", "off") + result, "", 0},
		"a state that nobody knows":            {restores, changed(result, "completed", "well"), "", 0},
		"a time that is none":                  {restores, changed(result, "02:00", "2"), "", 0},
		"something inside that is missing":     {restores, changed(result, `,"path":"/r1"`, ""), "", 0},
	} {
		if err := Check(typed(c.line), c.stdout, c.stderr, c.code); err == nil {
			t.Errorf("%s is not found", what)
		}
	}
}

// What a later version adds is good by the schemas of this one, as they are committed.
func TestTheCommittedSchemasTakeWhatALaterVersionAdds(t *testing.T) {
	for name, line := range map[string]string{
		"version": strings.Replace(version, `{`, `{"more":1,`, 1),
		"event":   strings.Replace(strings.Replace(event, "stopped", "off", 1), `"note"`, `"sung"`, 1),
		"run":     strings.Replace(result, "completed", "well", 1),
	} {
		open, err := asCommitted(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(open, line); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if Hold(name, line) == nil {
			t.Errorf("%s: ours is to be stricter", name)
		}
	}
}
