package engine

import (
	"context"
	"errors"
	"strings"
)

// InterruptedError says that somebody has ended the command: nothing has failed.
type InterruptedError struct{ cause error }

func (e *InterruptedError) Error() string { return "interrupted" }

func (e *InterruptedError) Unwrap() error { return e.cause }

// Interrupted returns an [*InterruptedError] in the place of an error that only says that the
// command was to end. Any other error stays what it is.
func Interrupted(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	// What gRPC and an agent return has the text, and wraps nothing.
	if !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), context.Canceled.Error()) {
		return err
	}
	return &InterruptedError{err}
}
