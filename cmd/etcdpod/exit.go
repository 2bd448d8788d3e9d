package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitOpenRun     = 3
	exitBadSnapshot = 4
	exitRefused     = 5
	exitFoundWrong  = 6
)

// exitCodes is the help's description of them.
func exitCodes() []string {
	return []string{
		exitDone:        "done",
		exitFailed:      "failed; everything is as before",
		exitUsage:       "wrong usage",
		exitOpenRun:     "a run is open: resume it or roll it back",
		exitBadSnapshot: "the snapshot is bad, missing, or not a regular file",
		exitRefused:     "refused by a check; nothing was touched",
		exitFoundWrong: "status, certs check or rehearse found something wrong, a backup was made while members did " +
			"not hold the same, or what a run put back does not serve",
	}
}

// foundError ends the program with an exit code for a result that has already been written.
type foundError int

func (e foundError) Error() string { return exitCodes()[e] }

// exitCode maps errors to exit codes. The order matters: how a run ended comes before why.
func exitCode(err error) int {
	var (
		found  foundError
		open   *engine.OpenRunError
		back   *engine.RolledBackError
		lacks  *engine.NotServingError
		usage  *engine.UsageError
		refuse *engine.RefusedError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &found):
		return int(found)
	case errors.As(err, &open):
		return exitOpenRun
	case errors.As(err, &lacks):
		return exitFoundWrong
	case engine.IsBadSnapshot(err):
		return exitBadSnapshot
	case engine.IsNoImage(err):
		return exitRefused
	case errors.As(err, &back):
		return exitFailed
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &refuse), engine.IsBusy(err):
		return exitRefused
	}
	return exitFailed
}

// failure is an error in JSON.
type failure struct {
	Error    string `json:"error"`
	Hint     string `json:"hint,omitempty"`
	ExitCode int    `json:"exitCode"`
}

// report shows an error, and returns the exit code.
func (s *session) report(ctx context.Context, err error) int {
	if known := (*engine.InterruptedError)(nil); !errors.As(err, &known) {
		err = engine.Interrupted(ctx, err)
	}
	code := exitCode(err)
	var found foundError
	if err == nil || errors.As(err, &found) {
		return code
	}
	message, advice := oneLine(err.Error()), oneLine(engine.Hint(err))
	if ctx.Err() != nil && !strings.HasPrefix(message, "interrupted") {
		message = "interrupted: " + message
	}
	if s.line.output == "json" {
		_ = json.NewEncoder(visibleJSON{s.stderr}).Encode(failure{message, advice, code})
		return code
	}
	width := breakAt(s.stderr)
	fmt.Fprint(s.stderr, wrapped("etcdpod: ", visible(message), 2, width))
	if advice != "" {
		fmt.Fprint(s.stderr, wrapped("hint: ", visible(advice), 2, width))
	}
	return code
}

// oneLine puts the lines of errors.Join on one.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
