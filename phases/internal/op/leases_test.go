package op

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// silent is an API server that answers no request.
type silent struct{ APIServer }

func (silent) ReleaseLease(ctx context.Context, _ APIAccess, _, _ string) error {
	return fmt.Errorf("cannot reach the API server: %w", errors.Join(ctx.Err(), errors.New("refused")))
}

// That a lease was not released is only noted. An interrupt is not: the operation has not done its
// work, and is to be done when the run is taken up.
func TestAnInterruptDoesNotPassForALeaseThatRunsOutByItself(t *testing.T) {
	var said []string
	target := &Target{APIServer: silent{}, Report: func(text string) { said = append(said, text) }}
	release := &ReleaseLeases{Leases: []string{"kube-system/kube-scheduler"}}
	if err := release.Do(t.Context(), target); err != nil || !strings.Contains(strings.Join(said, ""), "refused") {
		t.Errorf("a lease that cannot be released: %v, and it says %q", err, said)
	}
	said = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := release.Do(ctx, target); !errors.Is(err, context.Canceled) || len(said) > 0 {
		t.Errorf("interrupted: %v, and it says %q", err, said)
	}
}
