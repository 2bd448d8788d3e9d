package op

import (
	"testing"
	"time"
)

func TestOnlyTheLimitsOfAnOperationItselfCountForHowLongItMayTake(t *testing.T) {
	kubelets := &StartLimit{Limit: time.Hour}
	for _, c := range []struct {
		o    Op
		want time.Duration
	}{
		{&AwaitAnswer{Limit: time.Minute, Watched: Watched{Start: kubelets}}, time.Minute},
		{&AwaitPeer{Limit: time.Minute, Watched: Watched{Start: kubelets},
			Alone: &Alone{Fence: Fence{Timeout: time.Second}}},
			time.Minute + time.Second},
		{&RestartPod{Limit: time.Minute, Grace: 2 * time.Second}, time.Minute + 2*time.Second},
		{&StartKubelet{}, 0},
	} {
		if got := Within(c.o); got != c.want {
			t.Errorf("%T may take %s, and not %s", c.o, got, c.want)
		}
	}
}
