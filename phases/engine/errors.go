package engine

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// UsageError says that the command line makes no sense (exit code 2).
type UsageError struct{ Reason, Hint string }

func (e *UsageError) Error() string { return e.Reason }

// RefusedError says that a check forbids what was asked for, and that nothing was touched (exit
// code 5).
type RefusedError struct {
	Reason string
	Hint   string // names the flag that overrides the check, if there is one
}

func (e *RefusedError) Error() string { return e.Reason }

// Refuse makes a [*RefusedError]: nothing was touched. hint says what to do next, and may be empty.
func Refuse(hint, format string, args ...any) error {
	return &RefusedError{Reason: fmt.Sprintf(format, args...), Hint: hint}
}

// RefuseKind turns an error into a refusal if it says that a file is where a directory should be,
// or a directory where a file should be. Use it only while nothing has been touched.
func RefuseKind(err error) error {
	if !node.IsWrongKind(err) || IsBadSnapshot(err) {
		return err
	}
	return Refuse("check what is there, and move it away", "%v", err)
}

// OpenRunError says that a run is open and must be resumed or rolled back (exit code 3).
type OpenRunError struct {
	Run    RunSummary
	Cause  error  // what stopped the run just now; nil when it was found open
	Advice string // what to do before anything else; normally empty
}

// Error says which run is open, where it stands, and what stopped it.
func (e *OpenRunError) Error() string {
	var b strings.Builder
	if e.Cause != nil {
		fmt.Fprintf(&b, "%v; ", e.Cause)
	}
	r := e.Run
	fmt.Fprintf(&b, "run %s (%s) is open: it stopped", r.ID, strings.Join(r.Command, " "))
	if r.Phase != "" {
		fmt.Fprintf(&b, " in %s, at: %s", r.Phase, r.Operation)
	}
	return b.String()
}

func (e *OpenRunError) Unwrap() error { return e.Cause }

// Hint says what to type, and before that what cures the cause, where it knows.
func (e *OpenRunError) Hint() string {
	var denied *op.DeniedError
	if errors.As(e.Cause, &denied) {
		return denied.Hint() + "; then " + e.next()
	}
	return e.next()
}

func (e *OpenRunError) next() string {
	switch {
	case e.Advice != "":
		return e.Advice
	case len(e.Run.Nodes) > 0 && e.Run.Aborted:
		return "run `etcdpod rollback` to finish undoing it on all nodes: " + strings.Join(e.Run.Nodes, ", ")
	case len(e.Run.Nodes) > 0 && !e.Run.Committed:
		return fmt.Sprintf("run `etcdpod resume` to finish it on all nodes (%s), or `etcdpod rollback` to undo "+
			"everything; on %s, or on any of them", strings.Join(e.Run.Nodes, ", "), e.Run.Nodes[0])
	case e.Run.Aborted:
		return "run `etcdpod rollback` to finish undoing it"
	case e.Run.Skippable:
		return fmt.Sprintf("run `etcdpod resume` to finish it; if it cannot succeed, `etcdpod resume --skip-phases "+
			"%s` closes the run without them", strings.Join(e.Run.SkipPhases, ","))
	case e.Run.Committed:
		return "run `etcdpod resume` to finish it (it is past its commit point, and cannot be rolled back)"
	default:
		return "run `etcdpod resume` to finish it, or `etcdpod rollback` to undo everything"
	}
}

// RolledBackError says that a run failed and that everything is as it was before (exit code 1, or
// that of the cause).
type RolledBackError struct {
	Run   RunSummary
	Cause error
}

// Error says what stopped the run, and that everything is as it was before.
func (e *RolledBackError) Error() string {
	return fmt.Sprintf("%v; everything is as before", e.Cause)
}

func (e *RolledBackError) Unwrap() error { return e.Cause }

// NotServingError says that a run failed and that everything was put back, but that what served
// before does not serve (exit code 6).
type NotServingError struct {
	Run   RunSummary
	Cause error
	Lacks error // what does not serve
}

// Error says what stopped the run, and what does not serve.
func (e *NotServingError) Error() string {
	return fmt.Sprintf("%v; everything was put back, but it is not as before: %v", e.Cause, e.Lacks)
}

func (e *NotServingError) Unwrap() []error { return []error{e.Cause, e.Lacks} }

// Hint says how to have it serve again.
func (e *NotServingError) Hint() string { return cmp.Or(Hint(e.Lacks), "`etcdpod status` has details") }

// WentBack is how a run ended that failed and was taken back: lacks is nil if what served before
// was seen to serve.
func WentBack(run RunSummary, cause, lacks error) error {
	if lacks != nil {
		return &NotServingError{Run: run, Cause: cause, Lacks: lacks}
	}
	return &RolledBackError{Run: run, Cause: cause}
}

// UnreachableError says that etcd cannot be reached (exit code 1).
type UnreachableError struct {
	What       string // what cannot be done
	Cause      error
	Suggestion string
}

// Hint suggests what may help.
func (e *UnreachableError) Hint() string { return e.Suggestion }

func (e *UnreachableError) Error() string { return fmt.Sprintf("%s: %v", e.What, e.Cause) }

func (e *UnreachableError) Unwrap() error { return e.Cause }

// Hint says what to do next, if the error knows.
func Hint(err error) string {
	var refused *RefusedError
	var usage *UsageError
	var knows interface{ Hint() string }
	switch {
	case errors.As(err, &knows): // an open run outranks the error that left it open
		return knows.Hint()
	case errors.As(err, &refused):
		return refused.Hint
	case errors.As(err, &usage):
		return usage.Hint
	}
	return ""
}

// hintedError is an error with a hint.
type hintedError struct {
	error
	hint string
}

// WithHint adds a hint to an error.
func WithHint(err error, hint string) error { return &hintedError{err, hint} }

func (e *hintedError) Unwrap() error { return e.error }

// Hint says what to do.
func (e *hintedError) Hint() string { return e.hint }

// IsBusy says whether the error is that another etcdpod is changing this node (exit code 5).
func IsBusy(err error) bool {
	var busy *journal.BusyError
	return errors.As(err, &busy)
}

// IsNoImage says whether the error is that a node cannot get an image, for which nothing was
// stopped (exit code 5).
func IsNoImage(err error) bool {
	var none *op.NoImageError
	return errors.As(err, &none)
}

// IsBadSnapshot says whether the error is a verdict on a snapshot (exit code 4).
func IsBadSnapshot(err error) bool {
	var bad *snapfile.Bad
	return errors.As(err, &bad)
}
