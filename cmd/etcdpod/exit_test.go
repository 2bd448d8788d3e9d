package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases/engine"
)

func TestWhatARunEndedInDecidesTheExitCode(t *testing.T) {
	refused := &engine.RefusedError{Reason: "no"}
	cause := errors.New("disk full")
	for _, tt := range []struct {
		name string
		err  error
		want int
	}{
		{"no error is 0", nil, 0},
		{"any other error is 1", cause, 1},
		{"wrong usage is 2", &engine.UsageError{Reason: "no"}, 2},
		{"wrong usage deep inside is 2", fmt.Errorf("cannot: %w", &engine.UsageError{Reason: "no"}), 2},
		{"a run found open is 3", &engine.OpenRunError{}, 3},
		{"a run left open is 3 whatever stopped it", &engine.OpenRunError{Cause: refused}, 3},
		{"a run left open whose lock would not go, either, is 3",
			errors.Join(&engine.OpenRunError{Cause: cause}, cause), 3},
		{"a check that refuses is 5", refused, 5},
		{"a run that was put back, and does not serve, is 6",
			&engine.NotServingError{Cause: refused, Lacks: errors.New("etcd does not serve")}, 6},
		{"a run that was rolled back is 1", &engine.RolledBackError{Cause: cause}, 1},
		{"a run that was rolled back because a condition no longer held is 1",
			&engine.RolledBackError{Cause: refused}, 1},
		{"a status with warnings is 6", foundError(exitFoundWrong), 6},
		{"a verdict is 4", foundError(exitBadSnapshot), 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := exitCode(tt.err); got != tt.want {
				t.Errorf("exit code %d, want %d", got, tt.want)
			}
		})
	}
}

func TestAnErrorIsOneLineAndItsHintTheNext(t *testing.T) {
	var out strings.Builder
	s := &session{stderr: &out}
	s.report(context.Background(), errors.Join(&engine.RefusedError{Reason: "cannot restore x: too new",
		Hint: "upgrade first"}, errors.New("and\nmore")))
	if want := "etcdpod: cannot restore x: too new; and; more\nhint: upgrade first\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// What this user may not read is never a failure of the node, whichever path it is.
func TestWhatIsRefusedForWantOfRightsIsToldToRunAsRoot(t *testing.T) {
	c := cli.NewContext(nil, flag.NewFlagSet("", 0), nil)
	c.Command = &cli.Command{Name: "backups"}
	denied := fmt.Errorf("cannot list the backups: %w",
		&fs.PathError{Op: "open", Path: "/mnt/safe", Err: syscall.EACCES})
	for name, tt := range map[string]struct {
		uid  int
		err  error
		code int
	}{
		"not root":                       {1000, denied, exitUsage},
		"root, whom a file system stops": {0, denied, exitFailed},
		"another error":                  {1000, errors.New("no space"), exitFailed},
		"a run that is open":             {1000, &engine.OpenRunError{Cause: denied}, exitOpenRun},
		"a run that was undone":          {1000, &engine.RolledBackError{Cause: denied}, exitFailed},
		"nothing":                        {1000, nil, exitDone},
	} {
		err := (&session{uid: tt.uid}).denied(c, tt.err)
		if exitCode(err) != tt.code ||
			(tt.code == exitUsage) != (err != nil && strings.HasPrefix(err.Error(), "backups must be run as root: ")) {
			t.Errorf("%s: %d, %v", name, exitCode(err), err)
		}
	}
}
