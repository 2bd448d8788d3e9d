package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/etcdpod/etcdpod/phases"
)

// session is one call of the program: what it was given, and where it writes to.
type session struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) string
	args           []string // as typed, without the program's name
	uid            int      // effective
	line           line     // what args mean
}

func (s *session) app() *cli.App {
	app := &cli.App{
		Name: "etcdpod", Flags: globalFlags(), Commands: s.commands(), Writer: s.stdout, ErrWriter: s.stderr, HideHelp: true,
		ExitErrHandler: func(*cli.Context, error) {}, // errors are shown in one place: report
	}
	for _, c := range app.Commands {
		c.HideHelp = true
	}
	return app
}

// commands is the table of contents, in the order of the help.
func (s *session) commands() []*cli.Command {
	return []*cli.Command{
		s.backupCommand(),
		s.restoreCommand(),
		s.runsCommand(),
		s.resumeCommand(),
		s.rollbackCommand(),
		s.versionCommand(),
		s.completionCommand(),
		s.helpCommand(),
		s.completeCommand(),
	}
}

func (s *session) run(ctx context.Context) error {
	app := s.app()
	var err error
	s.line, err = arrange(app, s.args, s.env)
	if err != nil {
		return err
	}
	if s.line.help || s.line.command == nil {
		_, err := io.WriteString(s.stdout, helpText(app, s.line.command))
		return err
	}
	return app.RunContext(ctx, s.line.argv())
}

// onNode opens the node and shows what happens while work is done on it. Results are written after it: the display is closed by then.
func (s *session) onNode(c *cli.Context, work func(*phases.Node, display) error) error {
	show := s.display(c)
	defer show.close()
	node, err := phases.Open(s.config(c, show.event))
	if err != nil {
		return err
	}
	return work(node, show)
}

// asRoot refuses early what only root can do on a real node.
func (s *session) asRoot(c *cli.Context) error {
	if s.uid == 0 || c.String("root") != "/" {
		return nil
	}
	return &phases.UsageError{Reason: fmt.Sprintf("cannot %s: it must be run as root", c.Command.Name), Hint: "put sudo before it"}
}

// result writes what a command found or made: JSON on one line, or text.
func (s *session) result(c *cli.Context, value any, text func(io.Writer)) error {
	if asJSON(c) {
		return s.encode(value)
	}
	text(s.stdout)
	return nil
}

// lastResult is the result of a command that shows events: in JSON the last line, told from them by its one name.
func (s *session) lastResult(c *cli.Context, value any, text func(io.Writer)) error {
	return s.result(c, map[string]any{"result": value}, text)
}

func (s *session) encode(value any) error {
	if err := json.NewEncoder(s.stdout).Encode(value); err != nil {
		return fmt.Errorf("cannot write the result: %w", err)
	}
	return nil
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
