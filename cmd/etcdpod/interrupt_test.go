package main

import (
	"os"
	"strings"
	"testing"
)

// outlives is a member that goes on whatever happens here, until it has ended.
type outlives struct{ under bool }

func (m outlives) Interrupted() string {
	if !m.under {
		return ""
	}
	return "cp2 is under way: a second one does not wait."
}

func (m outlives) Left() string {
	if !m.under {
		return ""
	}
	return "cp2 goes on."
}

func TestASecondInterruptDoesNotWaitForWhatNothingStops(t *testing.T) {
	for _, under := range []bool{true, false} {
		var stderr strings.Builder
		s := newSession([]string{"etcdpod"}, nil, nil, &stderr, func(string) string { return "" })
		s.goesOn(outlives{under})
		interrupts, canceled, left := make(chan os.Signal, 3), false, -1
		for range 3 {
			interrupts <- os.Interrupt
		}
		s.heed(interrupts, func() { canceled = true }, func(code int) { left = code })
		got := strings.Join(strings.Fields(stderr.String()), " ")
		want := "cp2 is under way: a second one does not wait. etcdpod: interrupted twice. cp2 goes on."
		if !under {
			want = "Interrupted again: still stopping cleanly. A third Ctrl-C will not wait for that. " +
				"etcdpod: interrupted three times, stopped without waiting"
		}
		if got != want || !canceled || left != exitFailed || len(interrupts) != 0 && !under {
			t.Errorf("%v: %q, canceled %v, ended with %d", under, got, canceled, left)
		}
	}
}
