package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// manName is the hidden command that writes the manual pages, for who packages etcdpod.
const manName = "__man"

// manSection is that of commands for administrators.
const manSection = "8"

func init() {
	offer(sectionProgram, (*session).manCommand)
}

func (s *session) manCommand() *cli.Command {
	return &cli.Command{
		Name: manName, Hidden: true, ArgsUsage: "DIR", Usage: "write the manual pages into a directory",
		Action: func(c *cli.Context) error {
			dir := c.Args().First()
			if dir == "" {
				return &engine.UsageError{Reason: manName + " needs a directory"}
			}
			for name, text := range manPages(c.App, thisBuild().Version) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					return fmt.Errorf("cannot write a manual page: %w", err)
				}
			}
			return nil
		},
	}
}

// manPages returns the program's page and each command's, by file name.
func manPages(app *cli.App, version string) map[string]string {
	page := func(c *cli.Command) (name, text string) {
		name = pageName(app, c)
		var b strings.Builder
		// Nothing is hyphenated: half a flag cannot be copied.
		fmt.Fprintf(&b, ".TH %q %q \"\" %q %q\n.nh\n.ad l\n",
			strings.ToUpper(name), manSection, app.Name+" "+version, app.Name)
		if c == nil {
			writeProgramPage(&b, app)
		} else {
			writeCommandPage(&b, name, c)
		}
		return name + "." + manSection, b.String()
	}
	pages := map[string]string{}
	name, text := page(nil)
	pages[name] = text
	for _, c := range app.Commands {
		if !c.Hidden {
			name, text = page(c)
			pages[name] = text
		}
	}
	return pages
}

// pageName returns the name of a command's page, or of the program's.
func pageName(app *cli.App, c *cli.Command) string {
	if c == nil {
		return app.Name
	}
	return app.Name + "-" + strings.ReplaceAll(c.Name, " ", "-")
}

func writeProgramPage(b *strings.Builder, app *cli.App) {
	fmt.Fprintf(b, ".SH NAME\n%s \\- %s\n", app.Name, roff(programUsage))
	fmt.Fprintf(b, ".SH SYNOPSIS\n.B %s\nCOMMAND [FLAGS] [ARGUMENT]\n", app.Name)
	b.WriteString(".SH DESCRIPTION\n" + paragraphs(programHelp) + ".SH COMMANDS\n")
	var pages []string
	for _, c := range app.Commands {
		if !c.Hidden {
			fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(strings.TrimSpace(c.Name+" "+c.ArgsUsage)), roff(c.Usage))
			pages = append(pages, fmt.Sprintf(".BR %s (%s)", roff(pageName(app, c)), manSection))
		}
	}
	writeOptions(b, app.Flags)
	b.WriteString(".SH OUTPUT\n" + paragraphs(jsonHelp) + ".SH EXIT STATUS\n")
	for code, meaning := range exitCodes() {
		fmt.Fprintf(b, ".TP\n.B %d\n%s\n", code, roff(meaning))
	}
	writeExamples(b, programExample)
	b.WriteString(".SH SEE ALSO\n" + strings.Join(pages, ",\n") + "\n")
}

func writeCommandPage(b *strings.Builder, name string, c *cli.Command) {
	fmt.Fprintf(b, ".SH NAME\n%s \\- %s\n", roff(name), roff(c.Usage))
	before, after, _ := strings.Cut(usageLine(c), c.Name)
	fmt.Fprintf(b, ".SH SYNOPSIS\n.B %s\n%s\n", roff(before+c.Name), roff(strings.TrimSpace(after)))
	b.WriteString(".SH DESCRIPTION\n" + paragraphs(c.Description))
	writeOptions(b, c.Flags)
	writeExamples(b, c.UsageText)
	fmt.Fprintf(b, ".SH SEE ALSO\n.BR etcdpod (%s),\nfor the flags of every command and the exit codes\n", manSection)
}

func writeOptions(b *strings.Builder, flags []cli.Flag) {
	if len(flags) == 0 {
		return
	}
	b.WriteString(".SH OPTIONS\n")
	for _, f := range flags {
		left, right := describe(f.(cli.DocGenerationFlag))
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(left), roff(right))
	}
}

func writeExamples(b *strings.Builder, text string) {
	b.WriteString(".SH EXAMPLES\n.RS 4\n.nf\n")
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		b.WriteString(roff(strings.TrimSpace(line)) + "\n")
	}
	b.WriteString(".fi\n.RE\n")
}

// paragraphs sets each line as a paragraph.
func paragraphs(text string) string {
	var b strings.Builder
	for i, paragraph := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' }) {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		b.WriteString(roff(strings.TrimSpace(paragraph)) + "\n")
	}
	return b.String()
}

// roff escapes what would not be printed as it stands: a minus as a hyphen, a dot or an
// apostrophe at the head of a line as a request.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}
