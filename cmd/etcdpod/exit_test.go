package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

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
