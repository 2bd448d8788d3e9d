//go:build e2e

package threenodes

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

// run is an entry of `etcdpod runs --output json`.
type run struct {
	ID        string
	State     string
	Phase     string
	Operation string
	Path      string
	Committed bool
	Aborted   bool
}

// runs returns the runs of a node, the last one at the end.
func (k *cluster) runs(n *rig.Node) []run {
	k.Helper()
	var all []run
	k.Must(json.Unmarshal([]byte(k.want(0, n, "runs", "--output", "json").stdout), &all))
	return all
}

// openRun returns the run that is open on a node; its ID is empty when there is none.
func (k *cluster) openRun(n *rig.Node) run {
	k.Helper()
	for _, r := range k.runs(n) {
		if r.State == "open" {
			return r
		}
	}
	return run{}
}

func (k *cluster) lastRun(n *rig.Node) run {
	k.Helper()
	all := k.runs(n)
	if len(all) == 0 {
		k.Fatalf("%s has had no run", n.Name)
	}
	return all[len(all)-1]
}

// openRuns returns where a run is open, and it.
func (k *cluster) openRuns() (nodes []*rig.Node, runs []run) {
	k.Helper()
	for _, n := range k.nodes {
		if r := k.openRun(n); r.ID != "" {
			nodes, runs = append(nodes, n), append(runs, r)
		}
	}
	return nodes, runs
}

func (k *cluster) allClosed() {
	k.Helper()
	nodes, runs := k.openRuns()
	for i, r := range runs {
		k.Errorf("%s is still open on %s, in %s", r.ID, nodes[i].Name, r.Phase)
	}
}

// event is one line of `etcdpod restore --output json`.
type event struct {
	Time                          time.Time
	Node, Phase, Operation, State string
}

// parse reads a line; what is no event has no state.
func parse(line string) (e event) {
	if json.Unmarshal([]byte(strings.TrimSpace(line)), &e) != nil {
		return event{}
	}
	return e
}

// phaseTimes tells how long each phase took, from its first operation's begin to its last one's
// end, whatever the node.
func phaseTimes(stdout string) string {
	var order []string
	begin, end := map[string]time.Time{}, map[string]time.Time{}
	for line := range strings.Lines(stdout) {
		switch e := parse(line); e.State {
		case "started":
			if !slices.Contains(order, e.Phase) {
				order = append(order, e.Phase)
				begin[e.Phase] = e.Time
			}
		case "finished":
			end[e.Phase] = e.Time
		}
	}
	var words []string
	for _, phase := range order {
		words = append(words, fmt.Sprintf("%s %.1f s", phase, end[phase].Sub(begin[phase]).Seconds()))
	}
	return strings.Join(words, ", ")
}
