package members

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/together"
)

// Who removes the member of a machine that burnt down types its name with the others, as always.
func TestANodeThatIsGoneIsToBeLeftOut(t *testing.T) {
	gone := &together.UnreachedError{At: journal.Peer{Name: "cp3", Host: "cp3"}, Cause: errors.New("no route to host")}
	hint := engine.Hint(orGone(fmt.Errorf("cannot meet: %w", gone)))
	if !strings.Contains(hint, "leave it out of --nodes") || !strings.Contains(hint, gone.Hint()) {
		t.Errorf("the hint is %q", hint)
	}
	other := engine.Refuse("do that", "no")
	if hint := engine.Hint(orGone(other)); hint != "do that" {
		t.Errorf("of another error the hint is %q", hint)
	}
}
