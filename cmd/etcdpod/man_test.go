package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// read undoes what roff marks up, as a formatter would, so that pages can be searched for words.
func read(page string) string {
	page = strings.NewReplacer(`\-`, "-", `\(ga`, "`", `\(aq`, "'", `\(ha`, "^", `\(ti`, "~", `\&`, "", `\e`, `\`).
		Replace(page)
	return strings.Join(strings.Fields(page), " ")
}

func TestEveryCommandHasAManualPageThatSaysWhatItsHelpSays(t *testing.T) {
	app := (&session{}).app()
	pages := manPages(app, "v1.2.3")
	holds := func(name string, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if text = strings.Join(strings.Fields(text), " "); !strings.Contains(read(pages[name]), text) {
				t.Errorf("%s does not say %q:\n%s", name, text, pages[name])
			}
		}
	}
	sayFlags := func(name string, flags []cli.Flag) {
		t.Helper()
		for _, f := range flags {
			left, right := describe(f.(cli.DocGenerationFlag))
			holds(name, left, right)
		}
	}
	n := 1
	for _, c := range app.Commands {
		if c.Hidden {
			continue
		}
		n++
		name := "etcdpod-" + strings.ReplaceAll(c.Name, " ", "-")
		holds(name+".8", "etcdpod v1.2.3", name+" - "+c.Usage)
		holds(name+".8", strings.Split(c.Description+"\n"+c.UsageText, "\n")...)
		sayFlags(name+".8", c.Flags)
		holds("etcdpod.8", c.Name+" "+c.ArgsUsage, c.Usage, name+" (8)")
	}
	holds("etcdpod.8", programHelp, jsonHelp)
	holds("etcdpod.8", exitCodes()...)
	sayFlags("etcdpod.8", app.Flags)
	if len(pages) != n {
		t.Errorf("there are %d pages for %d commands and the program", len(pages), n-1)
	}
}

func TestAManualPageHoldsNoRequestsOfTheTexts(t *testing.T) {
	for text, want := range map[string]string{
		".TH in a text": `\&.TH in a text`, "'so it is": `\(aqso it is`, `a\fBb`: `a\efBb`, "--yes": `\-\-yes`,
	} {
		if got := roff(text); got != want {
			t.Errorf("%q became %q, not %q", text, got, want)
		}
		if got := read(roff(text)); got != text {
			t.Errorf("%q reads %q", text, got)
		}
	}
}

func TestManualPagesAreWrittenIntoADirectory(t *testing.T) {
	dir := t.TempDir()
	var stderr bytes.Buffer
	if code := writeManual(t, &stderr, dir); code != exitDone {
		t.Fatalf("ended with %d: %s", code, &stderr)
	}
	page, err := os.ReadFile(filepath.Join(dir, "etcdpod-certs-renew.8"))
	if err != nil || !strings.HasPrefix(string(page), `.TH "ETCDPOD-CERTS-RENEW" "8" `) {
		t.Errorf("the page is %q (%v)", page, err)
	}
	for _, args := range [][]string{{}, {filepath.Join(dir, "missing")}} {
		if code := writeManual(t, io.Discard, args...); code == exitDone {
			t.Errorf("%v ended with 0", args)
		}
	}
}

func writeManual(t *testing.T, stderr io.Writer, args ...string) int {
	t.Helper()
	return run(t.Context(), append([]string{"etcdpod", manName}, args...), nil, io.Discard, stderr, noEnv)
}
