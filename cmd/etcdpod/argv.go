package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// line is a command line put in order. cli/v2 stops reading flags at the first argument; people put
// flags where they think of them.
type line struct {
	command   *cli.Command // nil: none was named
	words     []string     // of its name, as far as they were read: `certs check` has two
	help      bool         // --help was among the flags
	global    []string     // --name=value
	local     []string     // the command's own, likewise
	arguments []string
	// Flags from the command line; others may come from the environment.
	typed map[string]bool
	// --output, if it was seen before reading failed.
	output string
}

// argv returns the line in the one order that cli/v2 understands.
func (l line) argv() []string {
	argv := append([]string{"etcdpod"}, l.global...)
	argv = append(append(argv, l.command.Name), l.local...)
	return append(append(argv, "--"), l.arguments...)
}

// arrange reads the command line: flags may stand before or after arguments, global ones also after
// the command, and `--` ends them. The environment fills in missing flags. All values are checked
// here, so that every mistake is reported in the same way.
func arrange(app *cli.App, args []string, env func(string) string) (line, error) {
	l := line{typed: map[string]bool{}, output: env(variableOf("output"))}
	var first error // reading goes on after an error: -o json may follow
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var err error
		switch {
		case arg == "--":
			l.arguments = append(l.arguments, args...)
			args = nil
		case len(arg) > 1 && arg[0] == '-':
			args, err = l.takeFlag(app, arg, args)
		default:
			err = l.takeWord(app, arg)
		}
		if first == nil {
			first = err
		}
	}
	if first == nil && l.command == nil && len(l.words) > 0 && !l.help {
		first = noCommand(app, strings.Join(l.words, " "))
	}
	if l.help || first != nil {
		return l, first
	}
	if err := l.takeVariables(app, env); err != nil {
		return l, err
	}
	return l, l.checkArguments()
}

// takeWord reads one more word of the command's name, or an argument.
func (l *line) takeWord(app *cli.App, word string) error {
	name := strings.Join(append(slices.Clone(l.words), word), " ")
	if word != "" && len(l.arguments) == 0 && (commandNamed(app, name) != nil || len(nextWords(app, name)) > 0) {
		l.words, l.command = append(l.words, word), commandNamed(app, name)
		return nil
	}
	if l.command == nil {
		return noCommand(app, name)
	}
	l.arguments = append(l.arguments, word)
	return nil
}

// takeFlag reads one flag and, if it needs one, its value from what follows.
func (l *line) takeFlag(app *cli.App, arg string, rest []string) ([]string, error) {
	name, value, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
	switch {
	case name == "help" || name == "h":
		l.help = true
		return rest, nil
	case name == "version" && l.command == nil:
		var err error
		l.command, err = findCommand(app, name)
		return rest, err
	}
	f, global := l.findFlag(app, name)
	if f == nil {
		return rest, l.unknownFlag(app, name)
	}
	name = f.Names()[0]
	if !hasValue {
		value = "true"
		if f.TakesValue() {
			if len(rest) == 0 {
				return rest, &engine.UsageError{Reason: fmt.Sprintf("--%s needs a value", name), Hint: l.helpHint()}
			}
			value, rest = rest[0], rest[1:]
		}
	}
	l.typed[name] = true
	return rest, l.add(f, global, value, "--"+name)
}

// findFlag looks among the command's flags, then the global ones.
func (l *line) findFlag(app *cli.App, name string) (f cli.DocGenerationFlag, global bool) {
	if l.command != nil {
		if f := flagNamed(l.command.Flags, name); f != nil {
			return f, false
		}
	}
	return flagNamed(app.Flags, name), true
}

func flagNamed(flags []cli.Flag, name string) cli.DocGenerationFlag {
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				return f.(cli.DocGenerationFlag)
			}
		}
	}
	return nil
}

// add checks a flag's value and puts it in its place. source names the value's origin in an error.
func (l *line) add(f cli.DocGenerationFlag, global bool, value, source string) error {
	name := f.Names()[0]
	if err := checkValue(f, value); err != nil {
		return &engine.UsageError{Reason: fmt.Sprintf("cannot use %q for %s: %v", value, source, err),
			Hint: l.helpHint()}
	}
	if name == "output" {
		l.output = value
	}
	if global {
		l.global = append(l.global, "--"+name+"="+value)
	} else {
		l.local = append(l.local, "--"+name+"="+value)
	}
	return nil
}

// checkValue has the flag parse the value, and says what it expects instead.
func checkValue(f cli.Flag, value string) error {
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	if err := f.Apply(set); err != nil {
		return err
	}
	err := set.Set(f.Names()[0], value)
	switch f.(type) {
	case *cli.DurationFlag:
		if err != nil || strings.HasPrefix(value, "-") {
			return errors.New("it wants a time like 30s or 5m")
		}
	case *cli.BoolFlag:
		if err != nil {
			return errors.New("it is true or false")
		}
	case *cli.IntFlag:
		if err != nil {
			return errors.New("it wants a whole number")
		}
	}
	return err
}

func (l *line) takeVariables(app *cli.App, env func(string) string) error {
	take := func(flags []cli.Flag, global bool) error {
		for _, f := range flags {
			name := f.Names()[0]
			variable := variableOf(name)
			if variable == "" || l.typed[name] || env(variable) == "" {
				continue
			}
			if err := l.add(f.(cli.DocGenerationFlag), global, env(variable), variable); err != nil {
				return err
			}
		}
		return nil
	}
	if err := take(app.Flags, true); err != nil || l.command == nil {
		return err
	}
	return take(l.command.Flags, false)
}

// checkArguments checks the line against the command's ArgsUsage: nothing, NAME, [NAME] or [NAME…].
func (l *line) checkArguments() error {
	if l.command == nil {
		if len(l.arguments) > 0 {
			return &engine.UsageError{Reason: "no command was named", Hint: l.helpHint()}
		}
		return nil
	}
	usage := l.command.ArgsUsage
	if l.command.Name == completeName || strings.HasSuffix(usage, "…]") {
		return nil
	}
	switch n := len(l.arguments); {
	case n == 0 && usage != "" && usage[0] != '[':
		return &engine.UsageError{Reason: fmt.Sprintf("%s needs %s", l.command.Name, usage), Hint: l.helpHint()}
	case n > 0 && usage == "":
		return &engine.UsageError{
			Reason: fmt.Sprintf("%s takes no arguments, and here is %q", l.command.Name, l.arguments[0]),
			Hint:   l.helpHint(),
		}
	case n > 1:
		return &engine.UsageError{
			Reason: fmt.Sprintf("%s takes one %s, and here is %q, too",
				l.command.Name, strings.Trim(usage, "[]"), l.arguments[1]), Hint: l.helpHint(),
		}
	}
	return nil
}

// findCommand finds a command by its name or alias, which may have several words.
func findCommand(app *cli.App, name string) (*cli.Command, error) {
	if c := commandNamed(app, name); c != nil {
		return c, nil
	}
	return nil, noCommand(app, name)
}

func commandNamed(app *cli.App, name string) *cli.Command {
	for _, c := range app.Commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// nextWords returns the words that complete or continue a command's name.
func nextWords(app *cli.App, words string) []string {
	var next []string
	for _, name := range commandNames(app) {
		rest, ok := strings.CutPrefix(name, strings.TrimLeft(words+" ", " "))
		if word, _, _ := strings.Cut(rest, " "); ok && !slices.Contains(next, word) {
			next = append(next, word)
		}
	}
	return next
}

func commandNames(app *cli.App) []string {
	var names []string
	for _, c := range app.Commands {
		if !c.Hidden {
			names = append(names, c.Names()...)
		}
	}
	return names
}

func noCommand(app *cli.App, name string) error {
	if next := nextWords(app, name); len(next) > 0 {
		return &engine.UsageError{Reason: fmt.Sprintf("%s needs one of: %s", name, strings.Join(next, ", ")),
			Hint: "`etcdpod help` lists the commands"}
	}
	hint := "`etcdpod help` lists the commands"
	if near := nearest(name, commandNames(app)); near != "" {
		hint = fmt.Sprintf("is it `etcdpod %s`? %s", near, hint)
	}
	return &engine.UsageError{Reason: fmt.Sprintf("there is no command %q", name), Hint: hint}
}

func (l *line) unknownFlag(app *cli.App, name string) error {
	where := "before the command"
	flags := app.Flags
	if l.command != nil {
		where = "for " + l.command.Name
		flags = append(append([]cli.Flag{}, l.command.Flags...), flags...)
	}
	var names []string
	for _, f := range flags {
		names = append(names, f.Names()[0])
	}
	hint := l.helpHint()
	if near := nearest(name, names); near != "" {
		hint = fmt.Sprintf("is it --%s? %s", near, hint)
	}
	return &engine.UsageError{Reason: fmt.Sprintf("there is no flag --%s %s", name, where), Hint: hint}
}

func (l *line) helpHint() string {
	if l.command == nil {
		return "`etcdpod help` tells of all flags"
	}
	return fmt.Sprintf("`etcdpod help %s` tells of its flags", l.command.Name)
}

// nearest returns the name within a typo or two of what was typed.
func nearest(typed string, names []string) string {
	best, limit := "", 3
	for _, name := range names {
		if d := distance(typed, name); d < limit {
			best, limit = name, d
		}
	}
	return best
}

// distance counts the letters to insert, delete or change (Levenshtein's).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
