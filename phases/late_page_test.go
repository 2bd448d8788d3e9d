package phases

import (
	"os"
	"strings"
	"testing"
)

// README sends to that page whoever has a run open. Past its commit point each kind of run has its
// own way back: a restore, to undo a removal, would take the whole cluster back in time.
func TestThePageOfInterruptedRunsHasAWayBackForEach(t *testing.T) {
	page, err := os.ReadFile("../docs/runbooks/interrupted.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := map[string]string{"handover": "replace", "renew": "certs renew", "apiserver": "apiserver set"}
	for workflow := range tooLate() {
		command := workflow
		if other := commands[workflow]; other != "" {
			command = other
		}
		row := false
		for _, line := range strings.Split(string(page), "\n") {
			first, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
			row = row || strings.HasPrefix(line, "| ") && strings.Contains(first, "`"+command+"`")
		}
		if !row {
			t.Errorf("docs/runbooks/interrupted.md has no row for `%s`", command)
		}
	}
}
