package crashtest

import (
	"errors"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// Refused checks that something was refused for a reason, with a hint that says what to do next;
// without a reason, that nothing went wrong.
func Refused(t *testing.T, err error, why, hint string) {
	t.Helper()
	var refused *engine.RefusedError
	switch {
	case why == "" && err != nil:
		t.Error(err)
	case why != "" && (!errors.As(err, &refused) ||
		!strings.Contains(err.Error(), why) || !strings.Contains(engine.Hint(err), hint)):
		t.Errorf("got %v, hint %q", err, engine.Hint(err))
	}
}
