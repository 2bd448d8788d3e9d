package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// completeName is the hidden command that the shells' scripts call for candidates.
const completeName = "__complete"

func (s *session) completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", ArgsUsage: "SHELL",
		Usage: "write a script that completes commands and flags in bash, zsh or fish",
		Description: `SHELL is bash, zsh or fish. The script asks etcdpod itself what can follow, so that ` +
			`it fits the version that is installed.`,
		UsageText: `etcdpod completion bash > /etc/bash_completion.d/etcdpod
etcdpod completion zsh > "${fpath[1]}/_etcdpod"
etcdpod completion fish > ~/.config/fish/completions/etcdpod.fish`,
		Action: func(c *cli.Context) error {
			shell := &choice{of: shells()}
			if err := shell.Set(c.Args().First()); err != nil {
				return &engine.UsageError{Reason: fmt.Sprintf("cannot complete for %q: %v", c.Args().First(), err)}
			}
			_, err := io.WriteString(s.stdout, completionScript(shell.is))
			return err
		},
	}
}

func shells() []string { return []string{"bash", "zsh", "fish"} }

func completionScript(shell string) string {
	switch shell {
	case "bash":
		return `# bash completion for etcdpod
_etcdpod() {
    local cur=${COMP_WORDS[COMP_CWORD]} line
    COMPREPLY=()
    while IFS=$'\t' read -r line _; do
        COMPREPLY+=("$line")
    done < <(etcdpod __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [ ${#COMPREPLY[@]} -eq 0 ] && [[ $cur != -* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}
complete -F _etcdpod etcdpod
`
	case "zsh":
		return `#compdef etcdpod
_etcdpod() {
    local -a found
    local line
    while IFS=$'\t' read -r line rest; do
        found+=("${line//:/\\:}:$rest")
    done < <(etcdpod __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#found} )); then
        _describe etcdpod found
    else
        _files
    fi
}
if [ "$funcstack[1]" = "_etcdpod" ]; then
    _etcdpod
else
    compdef _etcdpod etcdpod
fi
`
	}
	return `# fish completion for etcdpod
function __etcdpod_complete
    set -l typed (commandline -opc) (commandline -ct)
    set -l found (etcdpod __complete -- $typed[2..-1] 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c etcdpod -f -a '(__etcdpod_complete)'
`
}

func (s *session) completeCommand() *cli.Command {
	return &cli.Command{
		Name: completeName, Hidden: true, Usage: "write what can stand for the last of the words after --",
		Action: func(c *cli.Context) error {
			for _, found := range complete(c.App, c.Args().Slice()) {
				fmt.Fprintln(s.stdout, found)
			}
			return nil
		},
	}
}

// complete returns the candidates for the last word, each with a tab and its meaning. None: a
// file name may go there.
func complete(app *cli.App, words []string) []string {
	if len(words) == 0 {
		return nil
	}
	last := words[len(words)-1]
	l := line{}
	var waiting cli.DocGenerationFlag // a flag that still needs its value
	for _, word := range words[:len(words)-1] {
		switch {
		case waiting != nil && word == "=": // bash splits --flag=value into three words
		case waiting != nil:
			waiting = nil
		case word == "--":
			return nil
		case strings.HasPrefix(word, "-"):
			waiting = l.takesValue(app, word)
		default:
			_ = l.takeWord(app, word)
		}
	}
	if waiting != nil {
		return startingWith(valuesOf(waiting), strings.TrimPrefix(last, "="))
	}
	return startingWith(l.candidates(app, last), last)
}

// takesValue returns the flag if a value must follow it.
func (l *line) takesValue(app *cli.App, word string) cli.DocGenerationFlag {
	f, _ := l.findFlag(app, strings.TrimLeft(word, "-"))
	if f == nil || !f.TakesValue() {
		return nil
	}
	return f
}

func (l *line) candidates(app *cli.App, last string) []string {
	flagName, _, hasValue := strings.Cut(last, "=")
	switch {
	case strings.HasPrefix(last, "-") && hasValue:
		var candidates []string
		if f := l.takesValue(app, flagName); f != nil {
			for _, value := range valuesOf(f) {
				candidates = append(candidates, flagName+"="+value)
			}
		}
		return candidates
	case strings.HasPrefix(last, "-"):
		return l.flagCandidates(app)
	case l.command == nil:
		return commandCandidates(app, l.words)
	case l.command.Name == "help":
		return commandCandidates(app, l.arguments)
	case l.command.Name == "completion":
		return shells()
	}
	return nil
}

func valuesOf(f cli.DocGenerationFlag) []string {
	if g, ok := f.(*cli.GenericFlag); ok {
		if c, ok := g.Value.(*choice); ok {
			return c.of
		}
	}
	return nil
}

func (l *line) flagCandidates(app *cli.App) []string {
	flags := app.Flags
	if l.command != nil {
		flags = append(append([]cli.Flag{}, l.command.Flags...), flags...)
	}
	candidates := []string{"--help\ttell of the command and its flags"}
	for _, f := range flags {
		_, usage := describe(f.(cli.DocGenerationFlag))
		candidates = append(candidates, "--"+f.Names()[0]+"\t"+usage)
	}
	return candidates
}

// commandCandidates returns the words that can follow, each with what the completed command does.
func commandCandidates(app *cli.App, words []string) []string {
	var candidates []string
	for _, next := range nextWords(app, strings.Join(words, " ")) {
		usage := "…"
		if c := commandNamed(app, strings.Join(append(slices.Clone(words), next), " ")); c != nil {
			usage = c.Usage
		}
		candidates = append(candidates, next+"\t"+usage)
	}
	return candidates
}

func startingWith(candidates []string, start string) []string {
	var found []string
	for _, c := range candidates {
		if strings.HasPrefix(c, start) {
			found = append(found, c)
		}
	}
	return found
}
