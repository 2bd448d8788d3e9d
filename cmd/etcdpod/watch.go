package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/engine"
)

const (
	betweenLooks = 5 * time.Second
	clearScreen  = "\033[H\033[2J"
)

// watch looks again and again, until it is interrupted: that is how it is meant to end, and so how
// the last look ended counts. On a terminal each look takes the place of the one before.
func (s *session) watch(c *cli.Context, look func(*cli.Context) error) error {
	if asPrometheus(c) {
		return &engine.UsageError{Reason: "--watch and --output prometheus cannot be combined",
			Hint: "run status from a timer: `etcdpod units systemd status` prints one"}
	}
	last := error(context.Canceled) // nothing has been seen yet
	defer s.eraseTyped()
	for {
		if isTerminal(s.stdout) {
			head := folded(fmt.Sprintf("Every %s: etcdpod %s; Ctrl-C ends it\n\n", betweenLooks,
				visible(strings.Join(s.args, " "))), columns(s.stdout))
			fmt.Fprint(s.stdout, clearScreen, head)
			s.lines = max(1, rows(s.stdout)-strings.Count(head, "\n")-1)
		}
		err := look(c)
		switch found := foundError(0); {
		case c.Context.Err() != nil:
			return last
		case err != nil && !errors.As(err, &found):
			return err
		}
		last = err
		select {
		case <-c.Context.Done():
			return last
		case <-time.After(betweenLooks):
		}
	}
}

// eraseTyped takes ^C off the screen: the prompt is to stand at the start of a line.
func (s *session) eraseTyped() {
	if isTerminal(s.stdout) {
		fmt.Fprint(s.stdout, "\r\033[K")
	}
}

// within leaves out of the middle of a text what is more than that many lines: how it is stands at
// the top, and what to do next in the last paragraph. 0 is as many as there are.
func within(text string, lines int) string {
	all := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	if lines <= 0 || len(all) <= lines {
		return text
	}
	end := 0
	for i, line := range all {
		if line == "\n" {
			end = len(all) - i
		}
	}
	if end > lines/2 {
		end = 0
	}
	head := max(0, lines-1-end)
	text = strings.Join(all[:head], "") + fmt.Sprintf("… %d more lines: make the terminal higher to see them\n",
		len(all)-head-end)
	if end > 0 {
		text += strings.Join(all[len(all)-end:], "") + "\n"
	}
	return text
}
