package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// completeName is the hidden command that the shells' scripts call for candidates.
const completeName = "__complete"

func init() {
	offer(sectionProgram, (*session).completionCommand)
}

func (s *session) completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", ArgsUsage: "SHELL",
		Usage: "print a completion script for bash, zsh or fish",
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
