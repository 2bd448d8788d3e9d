// Package hand is what a test holds of a cluster of the rig: the test itself, and
// the time that it has.
package hand

import (
	"context"
	"testing"
	"time"
)

// Hand is one test's. It is embedded in what the tests of a package say of their cluster.
type Hand struct {
	*testing.T
	Ctx context.Context // outlives the test's own, so that what cleans up can use it
}

// Of returns the hand of a test, or of a subtest.
func Of(t *testing.T) Hand { return Hand{t, context.WithoutCancel(t.Context())} }

// Within returns a context that ends with the time, in which something must have happened.
func (h Hand) Within(limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(h.Ctx, limit)
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
