package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// line is a command line put in order. cli/v2 stops reading flags at the first argument; people put
// flags where they think of them.
type line struct {
	command   *cli.Command // nil: none was named
	words     []string     // of its name, as far as they were read: `certs check` has two
	unknown   []string     // words that are no command's
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

var errNoCommand = errors.New("no command has that name")

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
			if l.takeWord(app, arg); len(l.unknown) > 0 {
				err = errNoCommand
			}
		}
		if first == nil {
			first = err
		}
	}
	switch {
	case errors.Is(first, errNoCommand): // with all the words that were meant by it
		first = noCommand(app, l.words, l.unknown)
	case first == nil && l.command == nil && len(l.words) > 0 && !l.help:
		first = noCommand(app, l.words, nil)
	}
	if l.help || first != nil {
		return l, first
	}
	if err := l.takeVariables(app, env); err != nil {
		return l, err
	}
	return l, l.checkArguments(app)
}

// takeWord reads one more word of the command's name, or an argument.
func (l *line) takeWord(app *cli.App, word string) {
	name := strings.Join(append(slices.Clone(l.words), word), " ")
	switch {
	case word != "" && len(l.arguments)+len(l.unknown) == 0 &&
		(commandNamed(app, name) != nil || len(nextWords(app, name)) > 0):
		l.words, l.command = append(l.words, word), commandNamed(app, name)
	case l.command == nil:
		l.unknown = append(l.unknown, word)
	default:
		l.arguments = append(l.arguments, word)
	}
}

// takeFlag reads one flag and, if it needs one, its value from what follows.
func (l *line) takeFlag(app *cli.App, arg string, rest []string) ([]string, error) {
	name, value, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
	switch {
	case name == "help" || name == "h":
		l.help = true
		return rest, nil
	case name == "version" && l.command == nil:
		l.command = commandNamed(app, name)
		return rest, nil
	}
	f, global := l.findFlag(app, name)
	if f == nil && arg[1] != '-' { // -ojson
		if short, everywhere := l.findFlag(app, arg[1:2]); short != nil && short.TakesValue() {
			f, global, value, hasValue = short, everywhere, arg[2:], true
		}
	}
	if f == nil {
		return rest, l.unknownFlag(app, arg[:len(arg)-len(strings.TrimLeft(arg, "-"))]+name, name)
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
	if value == "" && name != "root" {
		return rest, &engine.UsageError{Reason: fmt.Sprintf("--%s needs a value, but got an empty one", name),
			Hint: "check that the shell variable you used is set"}
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
		return &engine.UsageError{Reason: fmt.Sprintf("invalid value %q for %s: %v", value, source, err),
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
		if d, parsed := time.ParseDuration(value); err != nil || parsed != nil || d <= 0 {
			return errors.New("expected a duration like 30s or 5m")
		}
	case *cli.BoolFlag:
		if err != nil {
			return errors.New("expected true or false")
		}
	case *cli.IntFlag:
		if err != nil {
			return errors.New("expected a whole number")
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

// checkArguments checks the line against the command's ArgsUsage: nothing, NAME, several NAMES,
// [NAME] or [NAME…].
func (l *line) checkArguments(app *cli.App) error {
	if l.command == nil {
		if len(l.arguments) > 0 {
			return &engine.UsageError{Reason: "no command was named", Hint: l.helpHint()}
		}
		return nil
	}
	usage := l.command.ArgsUsage
	if l.command.Name == completeName {
		return nil
	}
	what, many := strings.CutSuffix(strings.Trim(usage, "[]"), "…")
	if at := slices.Index(l.arguments, ""); at >= 0 {
		if names := strings.Fields(what); at < len(names) {
			what = names[at]
		}
		return &engine.UsageError{Reason: fmt.Sprintf("%s is empty", cmp.Or(what, "the argument")),
			Hint: "check that the shell variable you used is set"}
	}
	takes := max(1, len(strings.Fields(usage)))
	switch hint := fileHabit(l.arguments); {
	case what == "FILE" && hint != "":
		return &engine.UsageError{Reason: fmt.Sprintf("%s has no command %q", l.command.Name, l.arguments[0]),
			Hint: hint}
	case many:
		return nil
	case usage == "":
		takes = 0
	case usage[0] != '[' && len(l.arguments) < takes:
		return &engine.UsageError{Reason: fmt.Sprintf("%s needs %s", l.command.Name, usage), Hint: l.helpHint()}
	}
	if len(l.arguments) <= takes {
		return nil
	}
	unexpected := l.arguments[takes]
	hint := l.helpHint()
	if _, done := habit(append(strings.Fields(l.command.Name), l.arguments...)); done != "" {
		hint = done
	} else if near := l.longerName(app); near != "" && takes == 0 {
		hint = fmt.Sprintf("did you mean `etcdpod %s`? %s", near, hint)
	}
	return &engine.UsageError{Reason: fmt.Sprintf("unexpected argument %q", unexpected), Hint: hint}
}

// longerName is the command whose name begins with that of this one, where its arguments may be the
// rest of it with a slip.
func (l *line) longerName(app *cli.App) string {
	longer := slices.DeleteFunc(commandNames(app), func(name string) bool {
		return !strings.HasPrefix(name, l.command.Name+" ")
	})
	for n := len(l.arguments); n > 0; n-- {
		if near := nearest(l.command.Name+" "+strings.Join(l.arguments[:n], " "), longer); near != "" {
			return near
		}
	}
	if near := nearest(l.arguments[0], nextWords(app, l.command.Name)); near != "" && len(l.arguments) == 1 {
		return l.command.Name + " " + near // but a part of a name
	}
	return ""
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

// noCommand says that no command has that name: its first words are known, and the rest are not.
func noCommand(app *cli.App, known, rest []string) error {
	const list = "see `etcdpod help` for the commands"
	words := strings.Join(known, " ")
	if next := nextWords(app, words); len(rest) == 0 {
		return &engine.UsageError{Reason: fmt.Sprintf("%s needs one of: %s", words, strings.Join(next, ", ")),
			Hint: fmt.Sprintf("see `etcdpod help %s` for what they do", words)}
	}
	all := append(slices.Clone(known), rest...)
	if typed, hint := habit(all); hint != "" {
		return &engine.UsageError{Reason: fmt.Sprintf("unknown command %q", typed), Hint: hint}
	}
	if len(known) > 0 && len(nextWords(app, words)) == 0 { // the name of a command, and more
		return &engine.UsageError{Reason: fmt.Sprintf("unexpected argument %q", rest[0]),
			Hint: fmt.Sprintf("see `etcdpod help %s`", words)}
	}
	// A name of several words may have its slip in any of them.
	for n := len(all); n > len(known); n-- {
		if near := nearest(strings.Join(all[:n], " "), commandNames(app)); near != "" {
			return &engine.UsageError{Reason: fmt.Sprintf("unknown command %q", strings.Join(all[:n], " ")),
				Hint: fmt.Sprintf("did you mean `etcdpod %s`? %s", near, list)}
		}
	}
	// It may be but a part of a name.
	if near := nearest(rest[0], nextWords(app, words)); near != "" {
		return &engine.UsageError{Reason: fmt.Sprintf("unknown command %q", strings.Join(all[:len(known)+1], " ")),
			Hint: fmt.Sprintf("did you mean `etcdpod %s`? %s", strings.TrimSpace(words+" "+near), list)}
	}
	if len(known) > 0 {
		return &engine.UsageError{Reason: fmt.Sprintf("unknown command %q", words+" "+rest[0]),
			Hint: fmt.Sprintf("%s needs one of: %s", words, strings.Join(nextWords(app, words), ", "))}
	}
	return &engine.UsageError{Reason: fmt.Sprintf("unknown command %q", rest[0]), Hint: list}
}

// unknownFlag refuses a flag, which is shown as it was typed.
func (l *line) unknownFlag(app *cli.App, typed, name string) error {
	where := "before the command"
	flags := app.Flags
	if l.command != nil {
		where = "for " + l.command.Name
		flags = append(append([]cli.Flag{}, l.command.Flags...), flags...)
	}
	names := []string{"help"}
	if l.command == nil {
		names = append(names, "version")
	}
	for _, f := range flags {
		names = append(names, f.Names()[0])
	}
	hint := l.helpHint()
	if near := nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean --%s? %s", near, hint)
	} else if others := commandsWith(app, name); slices.Contains(others, inUnit(l.command)) {
		hint = fmt.Sprintf("it is a flag of %s: give it after --, at the end", inUnit(l.command))
	} else if len(others) > 0 {
		hint = fmt.Sprintf("it is a flag of %s; %s", strings.Join(others, ", "), hint)
	}
	return &engine.UsageError{Reason: fmt.Sprintf("unknown flag %s %s", typed, where), Hint: hint}
}

// commandsWith are the commands that have a flag, without the single phases of one that has it.
func commandsWith(app *cli.App, flag string) (names []string) {
	for _, c := range app.Commands {
		whole, _, _ := strings.Cut(c.Name, " phase ")
		if !c.Hidden && flagNamed(c.Flags, flag) != nil && !slices.Contains(names, whole) {
			names = append(names, c.Name)
		}
	}
	return names
}

func (l *line) helpHint() string {
	if l.command == nil || l.command.Hidden {
		return "see `etcdpod help` for all flags"
	}
	return fmt.Sprintf("see `etcdpod help %s` for its flags", l.command.Name)
}

// nearest returns the name within a slip or two of what was typed: a short word is another one
// after two.
func nearest(typed string, names []string) string {
	best, limit := "", 2
	if len(typed) > 4 {
		limit = 3
	}
	for _, name := range names {
		if d := distance(typed, name); d < limit {
			best, limit = name, d
		}
	}
	return best
}

// distance counts the letters to insert, delete or change, and the neighbours to swap (Damerau's
// and Levenshtein's).
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	before, last, row := rows[0], rows[1], rows[2]
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
