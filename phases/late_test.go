package phases

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who lets the agent be started must know what it may be asked, and who cannot take a run back,
// why not.
func TestWhatTheAgentDoesIsSaidOfEachWorkflow(t *testing.T) {
	for _, name := range []string{"security.md", "ssh.md"} {
		page, err := os.ReadFile(filepath.Join("..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range joints() {
			if j.Name == "handover" { // what replace does with a member that serves
				continue
			}
			if !strings.Contains(string(page), "`"+j.Name) {
				t.Errorf("docs/%s does not say that the agent carries out `%s`", name, j.Name)
			}
		}
	}
	for _, j := range joints() {
		if tooLate()[j.Name].Why == "" {
			t.Errorf("nothing says why %s is not undone behind its commit point", j.Name)
		}
	}
}
