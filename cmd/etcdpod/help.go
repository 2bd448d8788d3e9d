package main

import (
	"cmp"
	"fmt"
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
			return s.writeHelp(asked, c.App)
		},
	}
}

// helpColumns is how wide help is at most: lines that are much longer are hard to read.
const helpColumns = 79

// writeHelp writes the help of what was named: a command, the first words of several, or nothing.
func (s *session) writeHelp(l line, app *cli.App) error {
	b := page{width: min(cmp.Or(columns(s.stdout), helpColumns), helpColumns)}
	if l.command == nil && len(l.words) > 0 {
		writeGroupHelp(&b, app, strings.Join(l.words, " "))
	} else {
		writeHelpOf(&b, app, l.command)
	}
	_, err := s.stdout.Write(b.Bytes())
	return err
}

// writeHelpOf writes the help of a command, or of the program.
func writeHelpOf(b *page, app *cli.App, command *cli.Command) {
	if command == nil {
		writeProgramHelp(b, app)
	} else {
		writeCommandHelp(b, command, beginningWith(app, command.Name))
	}
}

// beginningWith are the commands whose names begin with these words, and go on.
func beginningWith(app *cli.App, words string) (commands []*cli.Command) {
	for _, c := range app.Commands {
		if !c.Hidden && strings.HasPrefix(c.Name, words+" ") {
			commands = append(commands, c)
		}
	}
	return commands
}

// writeGroupHelp lists the commands whose names begin with these words.
func writeGroupHelp(b *page, app *cli.App, words string) {
	b.WriteString(b.wrap("Usage: etcdpod "+words+" COMMAND [FLAGS] [ARGUMENT]", "") + "\nCommands:\n")
	commands := beginningWith(app, words)
	writeCommands(b, commands, widestName(commands))
	b.WriteString("\n")
	example, _, _ := strings.Cut(commands[0].UsageText, "\n")
	writeExample(b, example)
	b.WriteString("\n" + b.wrap(fmt.Sprintf("`etcdpod help %s` explains one of them and its flags.",
		nameInHelp(commands[0])), ""))
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

func writeProgramHelp(b *page, app *cli.App) {
	b.WriteString(b.wrap(programHelp, ""))
	b.WriteString("\n" + b.wrap("Usage: etcdpod COMMAND [FLAGS] [ARGUMENT]", ""))
	shown := slices.DeleteFunc(slices.Clone(app.Commands), func(c *cli.Command) bool { return c.Hidden })
	for len(shown) > 0 { // the sections, all in one column
		heading := shown[0].Category
		n := slices.IndexFunc(shown, func(c *cli.Command) bool { return c.Category != heading })
		if n < 0 {
			n = len(shown)
		}
		fmt.Fprintf(b, "\n%s:\n", heading)
		writeCommands(b, shown[:n], widestName(app.Commands))
		shown = shown[n:]
	}
	b.WriteString("\n" + b.wrap("Flags of every command, before or after it:", ""))
	writeFlags(b, app.Flags)
	b.WriteString("\n" + b.wrap(jsonHelp, "") + "\nExit codes:\n")
	for code, meaning := range exitCodes() {
		b.WriteString(wrapped(fmt.Sprintf("  %d  ", code), meaning, 5, b.width))
	}
	b.WriteString("\n")
	writeExample(b, programExample)
}

// writeCommands lists commands, and what each does beside it, or below it if the page is narrow.
func writeCommands(b *page, commands []*cli.Command, widest int) {
	for _, c := range commands {
		if b.width < 2*widest {
			fmt.Fprintf(b, "  %s\n%s", nameInHelp(c), b.wrap(c.Usage, "      "))
		} else {
			b.WriteString(wrapped(fmt.Sprintf("  %-*s  ", widest, nameInHelp(c)), c.Usage, widest+4, b.width))
		}
	}
}

func nameInHelp(c *cli.Command) string { return strings.TrimSpace(c.Name + " " + c.ArgsUsage) }

func widestName(commands []*cli.Command) (widest int) {
	for _, c := range commands {
		if !c.Hidden {
			widest = max(widest, utf8.RuneCountInString(nameInHelp(c)))
		}
	}
	return widest
}

// writeCommandHelp explains a command, and names those that have more words.
func writeCommandHelp(b *page, c *cli.Command, more []*cli.Command) {
	fmt.Fprintf(b, "%s\n%s\n%s", b.wrap("etcdpod "+c.Name+": "+c.Usage+".", ""),
		b.wrap("Usage: "+usageLine(c), ""), b.wrap(c.Description, ""))
	if len(c.Flags) > 0 {
		b.WriteString("\nFlags:\n")
		writeFlags(b, c.Flags)
	}
	if len(more) > 0 {
		b.WriteString("\nMore commands:\n")
		writeCommands(b, more, widestName(more))
	}
	b.WriteString("\n")
	writeExample(b, c.UsageText)
	b.WriteString("\n" + b.wrap("`etcdpod help` lists the flags that every command takes, and the exit codes.", ""))
}

// writeExample leaves long commands in one piece, so that they can be copied.
func writeExample(b *page, text string) {
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

func writeFlags(b *page, flags []cli.Flag) {
	for _, f := range flags {
		left, right := describe(f.(cli.DocGenerationFlag))
		fmt.Fprintf(b, "  %s\n%s", left, b.wrap(right, "      "))
	}
}

// wrap breaks each paragraph into indented lines that fit the page.
func (p *page) wrap(text, indent string) string {
	var b strings.Builder
	for _, paragraph := range strings.Split(text, "\n") {
		lines := wrapped(indent, strings.Join(strings.Fields(paragraph), " "), len(indent), p.width)
		b.WriteString(strings.TrimRight(lines, " \n") + "\n")
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
