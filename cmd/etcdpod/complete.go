package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/rehearse"
	"github.com/etcdpod/etcdpod/phases/restore"
)

func init() {
	offer(sectionProgram, (*session).completeCommand)
}

func (s *session) completeCommand() *cli.Command {
	return &cli.Command{
		Name: completeName, Hidden: true, Usage: "write what can stand for the last of the words after --",
		Action: func(c *cli.Context) error {
			for _, found := range complete(c.App, c.Args().Slice(), s.known(c)) {
				word, _, _ := strings.Cut(found, "\t")
				if strings.IndexFunc(word, hidden) < 0 { // a file may have any name
					fmt.Fprintln(s.stdout, found)
				}
			}
			return nil
		},
	}
}

// known is what completion knows of the node: the values of a command's arguments and flags.
type known func(command, what string) []string

// complete returns the candidates for the last word, each with a tab and its meaning. None: a
// file name may go there.
func complete(app *cli.App, words []string, known known) []string {
	if len(words) == 0 {
		return nil
	}
	last := words[len(words)-1]
	l := line{}
	var waiting cli.DocGenerationFlag // a flag that still needs its value
	for i, word := range words[:len(words)-1] {
		switch {
		case waiting != nil && word == "=": // bash splits --flag=value into three words
		case waiting != nil:
			waiting = nil
		case word == "--" && inUnit(l.command) != "": // the flags of another command follow
			return complete(app, append([]string{inUnit(l.command)}, words[i+1:]...), known)
		case word == "--":
			return nil
		case strings.HasPrefix(word, "-"):
			waiting = l.takesValue(app, word)
		default:
			l.takeWord(app, word)
		}
	}
	if waiting != nil {
		return l.values(waiting, known, strings.TrimPrefix(last, "="))
	}
	return startingWith(l.candidates(app, last, known), last)
}

// values completes a flag's value; of a list, its last item.
func (l *line) values(f cli.DocGenerationFlag, known known, typed string) []string {
	if g, ok := f.(*cli.GenericFlag); ok {
		if c, ok := g.Value.(*choice); ok {
			return startingWith(c.of, typed)
		}
	}
	if known == nil {
		return nil
	}
	name := ""
	if l.command != nil {
		name = l.command.Name
	}
	begin := ""
	if _, list := f.(*cli.StringSliceFlag); list {
		begin = typed[:strings.LastIndex(typed, ",")+1]
	}
	var candidates []string
	for _, value := range known(name, "--"+f.Names()[0]) {
		if !slices.Contains(strings.Split(begin, ","), value) {
			candidates = append(candidates, begin+value)
		}
	}
	return startingWith(candidates, typed)
}

// takesValue returns the flag if a value must follow it.
func (l *line) takesValue(app *cli.App, word string) cli.DocGenerationFlag {
	f, _ := l.findFlag(app, strings.TrimLeft(word, "-"))
	if f == nil || !f.TakesValue() {
		return nil
	}
	return f
}

func (l *line) candidates(app *cli.App, last string, known known) []string {
	flagName, value, hasValue := strings.Cut(last, "=")
	switch {
	case strings.HasPrefix(last, "-") && hasValue:
		var candidates []string
		if f := l.takesValue(app, flagName); f != nil {
			for _, value := range l.values(f, known, value) {
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
	var candidates []string
	if len(l.arguments) == 0 {
		candidates = commandCandidates(app, l.words) // `runs` and `runs show`
	}
	if known != nil && (len(l.arguments) == 0 || strings.HasSuffix(l.command.ArgsUsage, "…]")) {
		candidates = append(candidates, known(l.command.Name, argumentOf(l.command))...)
	}
	return candidates
}

// memberArgument is what the usage of a command calls a member of etcd, whichever command it is.
const memberArgument = "MEMBER"

// argumentOf is what known calls the argument of a command.
func argumentOf(c *cli.Command) string {
	if strings.HasPrefix(strings.TrimPrefix(c.ArgsUsage, "["), memberArgument) {
		return memberArgument
	}
	return "argument"
}

// known looks at the node's journals and backups, and asks its etcd for the members: what cannot be
// read or asked at once completes nothing, and no other node is asked.
func (s *session) known(c *cli.Context) known {
	return func(command, what string) []string {
		switch command + " " + what {
		case "certs renew argument", "certs generate-csr argument":
			return certs.Names()
		case "restore --skip-phases":
			return restore.Workflow(restore.Options{}).Optional()
		case "init --skip-phases":
			return members.Init(members.InitOptions{}).Optional()
		case "join --skip-phases":
			return members.Join(members.JoinOptions{}).Optional()
		case "resume --skip-phases":
			return s.fromRuns(c, func(r engine.RunSummary) []string { return r.SkipPhases })
		case "runs show argument":
			return s.fromRuns(c, func(r engine.RunSummary) []string { return []string{r.ID} })
		case "restore argument", "verify argument", "defrag --backup":
			return s.snapshots(c)
		case "rehearse argument":
			return append([]string{rehearse.Latest}, s.snapshots(c)...)
		}
		var names []string // kubeadm calls a member as its node
		if slices.Contains([]string{memberArgument, "--nodes", "--lost"}, what) {
			if n := s.quietly(c); n != nil {
				names = members.Names(c.Context, n.Look)
			}
		}
		if what == "--nodes" && command != "defrag" || what == "--lost" {
			for _, name := range s.fromRuns(c, func(r engine.RunSummary) []string { return r.Nodes }) {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
		return names
	}
}

// fromRuns picks from this node's runs, the newest first.
func (s *session) fromRuns(c *cli.Context, pick func(engine.RunSummary) []string) []string {
	n := s.quietly(c)
	if n == nil {
		return nil
	}
	runs, err := engine.RunsOf(n.Look.FS)
	if err != nil {
		return nil
	}
	var all []string
	for _, r := range slices.Backward(runs) {
		for _, value := range pick(r) {
			if !slices.Contains(all, value) {
				all = append(all, value)
			}
		}
	}
	return all
}

// snapshots are the backups where they are looked for without --dir, as paths of this process.
func (s *session) snapshots(c *cli.Context) []string {
	n := s.quietly(c)
	if n == nil {
		return nil
	}
	listing, err := backup.List(c.Context, n.Look, s.env("ETCDPOD_BACKUP_DIR"))
	if err != nil {
		return nil
	}
	var files []string
	for _, e := range listing.Entries {
		files = append(files, filepath.Join(c.String("root"), e.Path))
	}
	return files
}

func (s *session) quietly(c *cli.Context) *phases.Node {
	config, err := s.config(c, func(engine.Event) {})
	if err != nil {
		return nil
	}
	n, err := phases.Open(config)
	if err != nil {
		return nil
	}
	return n
}

func (l *line) flagCandidates(app *cli.App) []string {
	flags := app.Flags
	if l.command != nil {
		flags = append(append([]cli.Flag{}, l.command.Flags...), flags...)
	}
	candidates := []string{"--help\texplain the command and its flags"}
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
		name := strings.Join(append(slices.Clone(words), next), " ")
		usage := "one of: " + strings.Join(nextWords(app, name), ", ")
		if c := commandNamed(app, name); c != nil {
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
