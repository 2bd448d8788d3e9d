package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// session is one call of the program: its input, and where it writes.
type session struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) string
	args           []string // as typed, without the program's name
	uid            int      // effective
	line           line     // what args mean
	lines          int      // how many a result may have; 0: any number
	apart          []string // see phases.Config

	lock  sync.Mutex   // guards what follows: interrupts look at it
	node  *phases.Node // once it is opened
	runID string       // the id of the run that is carried out
	shows display      // what happens now
	under outliving    // what goes on whatever happens here; nil: nothing
	// What the last look of status --watch has read of etcd's figures, by node.
	lastLook map[string]*observe.Figures
	// What planning found, for who said yes beforehand and was shown no plan.
	unseen []engine.Finding
}

func (s *session) app() *cli.App {
	return &cli.App{
		Name: "etcdpod", Flags: globalFlags(), Commands: s.commands(),
		Writer: s.stdout, ErrWriter: s.stderr, HideHelp: true,
		ExitErrHandler: func(*cli.Context, error) {}, // errors are shown in one place: report
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
		return s.writeHelp(s.line, app)
	}
	if err := s.line.contradicts(); err != nil {
		return err
	}
	return app.RunContext(ctx, s.line.argv())
}

// contradicts refuses flags that each command takes, and that do not go together or with this one.
func (l line) contradicts() error {
	if l.typed["quiet"] && l.typed["verbose"] {
		return &engine.UsageError{Reason: "--quiet and --verbose cannot be combined"}
	}
	return l.forMonitoring()
}

// onNode opens the node, which this user must be allowed to look at, and shows what happens while
// work runs on it.
func (s *session) onNode(c *cli.Context, work func(*phases.Node, display) error) error {
	return s.anywhere(c, func(node *phases.Node, show display) error {
		if denied := node.Denied(); denied != "" {
			return mustBeRoot(c, fmt.Sprintf("cannot read %s: permission denied", denied))
		}
		s.lock.Lock()
		s.node, s.shows = node, show
		s.lock.Unlock()
		return s.denied(c, work(node, show))
	})
}

// anywhere is onNode for what any machine can do, and any user. The display is closed afterwards,
// before results are written.
func (s *session) anywhere(c *cli.Context, work func(*phases.Node, display) error) error {
	show := s.display(c)
	defer show.close()
	config, err := s.config(c, func(e engine.Event) {
		for _, before := range s.note(e) {
			show.event(before)
		}
		show.event(e)
	})
	if err != nil {
		return err
	}
	node, err := phases.Open(config)
	if err != nil {
		return s.denied(c, err)
	}
	s.lock.Lock()
	s.shows = show
	s.lock.Unlock()
	return work(node, show)
}

// denied says of what was refused for want of rights that root would be allowed it. How a run ended
// comes before why.
func (s *session) denied(c *cli.Context, err error) error {
	if s.uid == 0 || !errors.Is(err, fs.ErrPermission) || exitCode(err) != exitFailed {
		return err
	}
	if back := (*engine.RolledBackError)(nil); errors.As(err, &back) {
		return err
	}
	return mustBeRoot(c, err.Error())
}

// carriesOut remembers which run is carried out: an interrupt may come before anything is heard of
// it.
func (s *session) carriesOut(run string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.runID = run
}

// note remembers which run an event is of, and returns what is to be shown before the first one of
// a run.
func (s *session) note(e engine.Event) (before []engine.Event) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.runID = cmp.Or(s.runID, e.Run)
	if e.Run == "" {
		return nil
	}
	for _, f := range s.unseen {
		before = append(before, engine.Event{Time: e.Time, Run: e.Run, Node: cmp.Or(f.Node, e.Node),
			State: engine.Noted, Message: f.Text, Code: f.Code, Severity: f.Severity, Subject: f.Subject,
			Together: e.Together})
	}
	s.unseen = nil
	return before
}

// mustBeRoot refuses to tell anything of a node that this user may not look at.
func mustBeRoot(c *cli.Context, why string) error {
	return &engine.UsageError{Reason: c.Command.Name + " must be run as root: " + why, Hint: "run it with sudo"}
}

// spareMemory makes garbage collection more frequent: proving a snapshot of a million keys takes 44
// MiB with it and 57 without, in the same time.
func spareMemory() { debug.SetGCPercent(50) }

// asRoot refuses early what only root can do on a real node.
func (s *session) asRoot(c *cli.Context) error {
	if s.uid == 0 || filepath.Clean(c.String("root")) != "/" {
		return nil
	}
	return &engine.UsageError{Reason: c.Command.Name + " must be run as root", Hint: "run it with sudo"}
}

// result writes what a command found: JSON on one line, or text. value is a pointer, so that what
// is in it can be made visible.
func (s *session) result(c *cli.Context, value any, text func(io.Writer)) error {
	b := page{width: columns(s.stdout)}
	if s.isQuiet(c) && !asJSON(c) {
		return s.resultQuietly(value)
	}
	if asJSON(c) {
		if err := json.NewEncoder(visibleJSON{&b}).Encode(withLists(value)); err != nil {
			return fmt.Errorf("cannot write the result: %w", err)
		}
	} else {
		visibleIn(value)
		text(&b)
		b.Buffer = *bytes.NewBufferString(within(folded(visibleLines(b.String()), b.width), s.lines))
	}
	if _, err := s.stdout.Write(b.Bytes()); err != nil {
		return fmt.Errorf("cannot write the result: %w", err)
	}
	return nil
}

// done writes what a command made or changed. The change is done even if the output fails: the exit
// code must not say otherwise.
func (s *session) done(c *cli.Context, value any, text func(io.Writer)) {
	if err := s.result(c, value, text); err != nil {
		fmt.Fprintf(s.stderr, "etcdpod: %s is done, but %v\n", c.Command.Name, err)
	}
}

// doneWith is done for a command that shows events: in JSON the result is the last line, with a
// single name that no event has.
func (s *session) doneWith(c *cli.Context, result any, text func(io.Writer)) {
	s.done(c, outcome{Result: result}, text)
}

// outcome is the last line of a command that shows events.
type outcome struct {
	Result   any              `json:"result"`
	Findings []engine.Finding `json:"findings,omitempty"` // what is wrong although it is done
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
