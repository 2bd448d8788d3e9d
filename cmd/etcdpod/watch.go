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
	for {
		if isTerminal(s.stdout) {
			fmt.Fprintf(s.stdout, "%sEvery %s: etcdpod %s; Ctrl-C ends it\n\n", clearScreen, betweenLooks,
				visible(strings.Join(s.args, " ")))
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
