//go:build e2e

package threenodes

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// outcome is how a trial ended.
type outcome struct {
	trial
	passed bool
	by     string        // what ended the restore: itself, or the command that was typed
	in     state         // the world in which all three nodes are
	took   time.Duration // from the restore's begin until that was seen
}

// reportFile tells what a full matrix tried. The test writes it, and nobody else.
const reportFile = "docs/matrix.md"

// writeReport writes the outcomes of a full matrix.
func writeReport(all []outcome) error {
	root, err := binaries.ModuleRoot()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, reportFile), []byte(report(all)), 0o644)
}

func report(all []outcome) string {
	var text strings.Builder
	failed := slices.DeleteFunc(slices.Clone(all), func(o outcome) bool { return o.passed })
	fmt.Fprintf(&text, `# Where a restore on three nodes was cut off

%d restores on three real kubeadm control planes (Kubernetes %s, etcd %s). Each was cut off
when one operation started on one of the nodes, and then ended with `+"`etcdpod resume`"+` or
`+"`etcdpod rollback`"+`. `+"`make e2e-matrix`"+` repeats this and writes this page.

After each of them all three nodes are wholly old or wholly new: one cluster ID, the same hash of
all keys on every member, every API server ready and showing the same objects, the same manifests as
before, no process on the other data, no open run. %s

- A restore is cut off in one of three ways: the coordinator is killed, with its connections
  (SIGKILL); the agent on a node is killed (SIGKILL); a node loses power and is switched on again.
- *itself*: no command was needed, because the killed process had done its part, or because the
  others undid the run at once.
- Until the commit point, after `+"`compare-members`"+`, a failure undoes the run on all nodes; `+"`resume`"+`
  then finishes undoing. After it, `+"`rollback`"+` is refused, and `+"`resume`"+` finishes the run.

`, len(all), binaries.KubernetesVersion, binaries.Etcd37, passedOf(all, failed))
	for _, o := range failed {
		fmt.Fprintf(&text, "**Failed**: %s.\n\n", o.trial)
	}
	summary(&text, all)
	text.WriteString("\n## Each restore\n\nOperations are numbered within their phase from 0, in the order in " +
		"which `restore --dry-run --nodes`\nshows them. Seconds count from the start of the restore until the " +
		"state of all nodes was known.\n\n")
	text.WriteString("| phase and operation | node | cut off | ended by | state | " +
		"seconds |\n|---|---|---|---|---|---|\n")
	for _, o := range all {
		in := string(o.in)
		if !o.passed {
			in = "**failed**"
		}
		fmt.Fprintf(&text, "| %s %d | %s | %s | %s | %s | %.0f |\n",
			o.phase, o.operation, o.node, o.cut, o.by, in, o.took.Seconds())
	}
	return text.String()
}

func passedOf(all, failed []outcome) string {
	if len(failed) == 0 {
		return fmt.Sprintf("All %d passed.", len(all))
	}
	return fmt.Sprintf("%d of %d passed.", len(all)-len(failed), len(all))
}

// summary counts, for each phase and each way to cut off, in which worlds the
// cluster was in the end.
func summary(text *strings.Builder, all []outcome) {
	cuts := []cut{killCoordinator, killAgent, reboot}
	fmt.Fprintf(text, "## Summary\n\n| phase | %s | %s | %s |\n|---|---|---|---|\n", cuts[0], cuts[1], cuts[2])
	var phases []string
	for _, o := range all {
		if !slices.Contains(phases, o.phase) {
			phases = append(phases, o.phase)
		}
	}
	for _, phase := range phases {
		fmt.Fprintf(text, "| %s |", phase)
		for _, how := range cuts {
			fmt.Fprintf(text, " %s |", tally(all, phase, how))
		}
		text.WriteString("\n")
	}
}

// tally is a number for each world: "2 old, 3 new".
func tally(all []outcome, phase string, how cut) string {
	var words []string
	for _, in := range []state{wholeOld, wholeNew, ""} {
		n := 0
		for _, o := range all {
			if o.phase == phase && o.cut == how && (o.passed && o.in == in || !o.passed && in == "") {
				n++
			}
		}
		name := string(in)
		if in == "" {
			name = "**failed**"
		}
		if n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, name))
		}
	}
	return strings.Join(words, ", ")
}

func TestTheReportTellsOfEveryTrial(t *testing.T) {
	all := []outcome{
		{trial{point{"cp1", "fence", 2}, killCoordinator, resume}, true, "resume", wholeNew, 12 * time.Second},
		{trial{point{"cp1", "fence", 2}, killCoordinator, rollback}, true, "rollback", wholeOld, 9 * time.Second},
		{trial{point{"cp2", "exchange-data", 0}, reboot, resume}, false, "", "", 0},
	}
	text := report(all)
	for _, words := range []string{"2 of 3 passed", "| fence | 1 old, 1 new |  |  |",
		"| exchange-data |  |  | 1 **failed** |", "**Failed**: exchange-data 0 on cp2",
		"| fence 2 | cp1 | the coordinator is killed | rollback | old | 9 |"} {
		if !strings.Contains(text, words) {
			t.Errorf("it does not say %q:\n%s", words, text)
		}
	}
	if text := report(all[:2]); !strings.Contains(text, "All 2 passed") || strings.Contains(text, "ailed**") {
		t.Errorf("it does not say that all passed:\n%s", text)
	}
}
