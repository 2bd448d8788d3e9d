// Package hand gives tests of a cluster of the rig short helpers: the test itself, and its time.
package hand

import (
	"context"
	"testing"
	"time"
)

// Hand is one test's. It is embedded in each package's own type for its cluster.
type Hand struct {
	*testing.T
	Ctx context.Context // outlives the test's own, so that cleanup can use it
}

// Of returns the hand of a test or subtest.
func Of(t *testing.T) Hand { return Hand{t, context.WithoutCancel(t.Context())} }

// Patience only ends what hangs: a test that may take less fails on a machine that is busy with
// others, and proves nothing by that.
const Patience = 10 * time.Minute

// Patiently returns a context that ends after [Patience].
func (h Hand) Patiently() context.Context {
	ctx, cancel := context.WithTimeout(h.Ctx, Patience)
	h.Cleanup(cancel)
	return ctx
}

// Must ends the test on an error.
func (h Hand) Must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}
