package engine

import (
	"fmt"
	"path"
	"runtime"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// BugError says that etcdpod itself failed: a panic of its own, or of a library outside the places
// that know what such a panic means.
type BugError struct {
	Value any    // what it panicked with
	At    string // file and line of etcdpod's own code
}

// Error is one sentence, whatever the panic said.
func (e *BugError) Error() string {
	text, _, _ := strings.Cut(fmt.Sprint(e.Value), "\n")
	return fmt.Sprintf("etcdpod itself failed, in %s: %s", e.At, text)
}

// Hint asks for a report: nobody can mend it here.
func (e *BugError) Hint() string { return "this is a bug in etcdpod: please report this message" }

// Bug describes a panic. It must be called by the function that recovers from it.
func Bug(value any) *BugError {
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	at, panicked := "an unknown place", false
	for {
		f, more := frames.Next()
		if strings.HasPrefix(f.Function, "runtime.") {
			panicked = true // what comes before only handles it
		} else if panicked && strings.Contains(f.Function, "etcdpod") {
			at = fmt.Sprintf("%s:%d", path.Join(path.Base(path.Dir(f.File)), path.Base(f.File)), f.Line)
			break
		}
		if !more {
			break
		}
	}
	return &BugError{value, at}
}

// Guarded turns a panic into an error, so that a run goes back from it as from any other.
func Guarded(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = Bug(p)
		}
	}()
	return do()
}

// Concurrently is [op.Concurrently], for those who look at a node.
func Concurrently(n int, do func(i int)) { op.Concurrently(n, do) }
