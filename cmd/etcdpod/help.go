package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

func init() {
	offer(sectionProgram, (*session).helpCommand)
}

func (s *session) helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", ArgsUsage: "[COMMAND…]", Usage: "explain a command and its flags",
		Description: `The same as --help after the command.`,
		UsageText: `etcdpod help restore
etcdpod help certs`,
		Action: func(c *cli.Context) error {
			asked := line{}
			for _, word := range c.Args().Slice() {
				asked.takeWord(c.App, word)
			}
			if unknown := slices.Concat(asked.unknown, asked.arguments); len(unknown) > 0 {
				return noCommand(c.App, asked.words, unknown)
			}
			_, err := io.WriteString(s.stdout, asked.helpText(c.App))
			return err
		},
	}
}

// helpText is the help of what was named: a command, the first words of several, or nothing.
func (l *line) helpText(app *cli.App) string {
	if l.command == nil && len(l.words) > 0 {
		return groupHelp(app, strings.Join(l.words, " "))
	}
	return helpText(app, l.command)
}

// helpText returns the help of a command, or of the program.
func helpText(app *cli.App, command *cli.Command) string {
	var b strings.Builder
	if command == nil {
		writeProgramHelp(&b, app)
	} else {
		writeCommandHelp(&b, command)
	}
	return b.String()
}

// groupHelp lists the commands whose names begin with these words.
func groupHelp(app *cli.App, words string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: etcdpod %s COMMAND [FLAGS] [ARGUMENT]\n\nCommands:\n", words)
	var rows [][]string
	first := ""
	for _, c := range app.Commands {
		if !c.Hidden && strings.HasPrefix(c.Name, words+" ") {
			rows = append(rows, []string{"  " + strings.TrimSpace(c.Name+" "+c.ArgsUsage), c.Usage})
			first = cmp.Or(first, c.UsageText)
		}
	}
	aligned(&b, rows)
	b.WriteString("\n")
	first, _, _ = strings.Cut(first, "\n")
	writeExample(&b, first)
	fmt.Fprintf(&b, "\n`etcdpod help %s` explains one of them and its flags.\n",
		strings.TrimSpace(rows[0][0]))
	return b.String()
}

const jsonHelp = `With -o json every line on standard output is JSON, and an error is {"error", ` +
	`"hint", "exitCode"} on standard error. ` +
	`A command that carries out a run writes its events, one a line, and last {"result": …}; ` +
	`any other, and --dry-run, writes only its result.`

// What the program's help and its manual page say.
const (
	programUsage = `looks after etcd on kubeadm control planes`
	programHelp  = `etcdpod ` + programUsage + `: it backs up, verifies and ` +
		`restores, and gets every change either wholly done or wholly undone.`
	programExample = `etcdpod status
etcdpod backup
etcdpod restore /var/lib/etcdpod/backups/etcd-cp1-20260801T020000Z-r81234.db`
)

func writeProgramHelp(b *strings.Builder, app *cli.App) {
	b.WriteString(wrap(programHelp, ""))
	b.WriteString("\nUsage: etcdpod COMMAND [FLAGS] [ARGUMENT]\n")
	writeCommands(b, app.Commands)
	b.WriteString("\nFlags of every command, before or after it:\n")
	writeFlags(b, app.Flags)
	b.WriteString("\n" + wrap(jsonHelp, "") + "\nExit codes:\n")
	for code, meaning := range exitCodes() {
		fmt.Fprintf(b, "  %d  %s\n", code, meaning)
	}
	b.WriteString("\n")
	writeExample(b, programExample)
}

// writeCommands lists commands by section, all in one column: a table would align each section by
// itself.
func writeCommands(b *strings.Builder, commands []*cli.Command) {
	shown := slices.DeleteFunc(slices.Clone(commands), func(c *cli.Command) bool { return c.Hidden })
	name := func(c *cli.Command) string { return strings.TrimSpace(c.Name + " " + c.ArgsUsage) }
	widest := 0
	for _, c := range shown {
		widest = max(widest, utf8.RuneCountInString(name(c)))
	}
	heading := ""
	for _, c := range shown {
		if c.Category != heading {
			heading = c.Category
			fmt.Fprintf(b, "\n%s:\n", heading)
		}
		fmt.Fprintf(b, "  %-*s  %s\n", widest, name(c), c.Usage)
	}
}

func writeCommandHelp(b *strings.Builder, c *cli.Command) {
	fmt.Fprintf(b, "%s\nUsage: %s\n\n%s", wrap("etcdpod "+c.Name+": "+c.Usage+".", ""),
		usageLine(c), wrap(c.Description, ""))
	if len(c.Flags) > 0 {
		b.WriteString("\nFlags:\n")
		writeFlags(b, c.Flags)
	}
	b.WriteString("\n")
	writeExample(b, c.UsageText)
	b.WriteString("\n`etcdpod help` lists the flags that every command takes, and the exit codes.\n")
}

func writeExample(b *strings.Builder, text string) {
	b.WriteString("Example:\n")
	for _, line := range strings.Split(text, "\n") {
		fmt.Fprintf(b, "  %s\n", line)
	}
}

func usageLine(c *cli.Command) string {
	text := "etcdpod " + c.Name
	if len(c.Flags) > 0 {
		text += " [FLAGS]"
	}
	return strings.TrimSpace(text + " " + c.ArgsUsage)
}

func writeFlags(b *strings.Builder, flags []cli.Flag) {
	for _, f := range flags {
		left, right := describe(f.(cli.DocGenerationFlag))
		fmt.Fprintf(b, "  %s\n%s", left, wrap(right, "      "))
	}
}

// wrap breaks each paragraph into indented lines that fit a terminal of 80 columns.
func wrap(text, indent string) string {
	const columns = 79
	var b strings.Builder
	for _, paragraph := range strings.Split(text, "\n") {
		line := indent
		for _, word := range strings.Fields(paragraph) {
			if line != indent && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > columns {
				b.WriteString(line + "\n")
				line = indent
			}
			if line != indent {
				line += " "
			}
			line += word
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// describe returns a flag with its placeholder, and its purpose with default and variable.
func describe(f cli.DocGenerationFlag) (left, right string) {
	before, rest, _ := strings.Cut(f.GetUsage(), "`")
	placeholder, after, _ := strings.Cut(rest, "`")
	right = before + placeholder + after
	for i, name := range f.Names() {
		if i > 0 {
			left += ", "
		}
		left += strings.Repeat("-", min(len(name), 2)) + name
	}
	if placeholder != "" {
		left += " " + placeholder
	}
	var more []string
	if text := f.GetDefaultText(); text != "" && f.TakesValue() {
		more = append(more, "default "+strings.Trim(text, `"`))
	}
	if variable := variableOf(f.Names()[0]); variable != "" {
		more = append(more, "$"+variable)
	}
	if len(more) > 0 {
		right += " (" + strings.Join(more, ", ") + ")"
	}
	return left, right
}
