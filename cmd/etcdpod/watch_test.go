package main

import (
	"fmt"
	"strings"
	"testing"
)

// What is more than a terminal has lines for would leave the top at once.
func TestWhatIsWatchedStaysWithinTheTerminal(t *testing.T) {
	text := "how it is\n\n"
	for i := range 30 {
		text += fmt.Sprintf("row %d\n", i)
	}
	text += "\nNext: do this\n  and that\n"
	got := within(text, 10)
	if lines := strings.Count(got, "\n"); lines != 10 || !strings.HasPrefix(got, "how it is\n\nrow 0\n") ||
		!strings.HasSuffix(got, "\nNext: do this\n  and that\n") || !strings.Contains(got, "… 26 more lines") {
		t.Errorf("%d lines:\n%s", lines, got)
	}
	for _, lines := range []int{0, 35, 100} {
		if got := within(text, lines); got != text {
			t.Errorf("within %d lines it is\n%s", lines, got)
		}
	}
	if got := within(text, 3); strings.Count(got, "\n") != 3 || !strings.HasPrefix(got, "how it is\n") {
		t.Errorf("within 3 lines it is\n%s", got)
	}
}
