//go:build e2e

package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/etcdpod/etcdpod/e2e/leash"
)

// event is a line that etcdpod writes with --output json while it runs.
type event struct {
	Time      time.Time
	Phase     string
	Operation string
	State     string
	Message   string
	Error     string
}

// run is an entry of `etcdpod runs --output json`.
type run struct {
	ID        string
	State     string
	Phase     string
	Operation string
	Path      string
	Committed bool
}

func (k *control) runs() []run {
	k.Helper()
	var all []run
	k.Must(json.Unmarshal([]byte(k.want(0, "runs", "--output", "json").stdout), &all))
	return all
}

// openRun returns the run that is open; its ID is empty when there is none.
func (k *control) openRun() run {
	k.Helper()
	for _, r := range k.runs() {
		if r.State == "open" {
			return r
		}
	}
	return run{}
}

func (k *control) lastRun() run {
	k.Helper()
	all := k.runs()
	if len(all) == 0 {
		k.Fatal("there is no run")
	}
	return all[len(all)-1]
}

// point is where a restore is cut off: when the n-th operation of a phase, counted from 0, begins.
type point struct {
	phase     string
	operation int
	committed bool // the phase is behind the commit point
}

func (p point) String() string { return fmt.Sprintf("%s %d", p.phase, p.operation) }

// points returns every operation of a restore, as its dry run shows them.
func (k *control) points(file string) []point {
	k.Helper()
	var plan struct {
		Phases []struct {
			Name       string
			Operations []string
			Commit     bool
		}
	}
	k.Must(json.Unmarshal([]byte(k.want(0, "restore", "--dry-run", "--output", "json", file).stdout), &plan))
	var all []point
	committed := false
	for _, p := range plan.Phases {
		for i := range p.Operations {
			all = append(all, point{p.Name, i, committed})
		}
		committed = committed || p.Commit
	}
	if !committed || len(all) < 10 {
		k.Fatalf("an odd plan: %+v", plan)
	}
	return all
}

// events parses what etcdpod wrote; lines that are no events are passed over.
func events(stdout string) []event {
	var all []event
	for line := range strings.Lines(stdout) {
		var e event
		if json.Unmarshal([]byte(line), &e) == nil && e.State != "" {
			all = append(all, e)
		}
	}
	return all
}

// phaseTimes says how long each phase took.
func phaseTimes(all []event) string {
	var b strings.Builder
	var phase string
	var since time.Time
	for _, e := range all {
		if e.State != "phase" && e.State != "ended" {
			continue
		}
		if phase != "" {
			fmt.Fprintf(&b, "%s %.2f s, ", phase, e.Time.Sub(since).Seconds())
		}
		phase, since = e.Phase, e.Time
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// cutOff begins a restore on a leash, and calls cut when it announces the point, before it can tell
// of anything else; cut ends the process. It returns the run that is then open.
func (k *control) cutOff(file string, at point, cut func(kill func())) run {
	k.Helper()
	cmd := k.node.Command(k.Patiently(), "etcdpod", "restore", "--yes", "--output", "json", file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	n, reached := 0, false
	err := leash.Run(cmd, &cmd.Stdout, func(line string) {
		for _, e := range events(line) {
			if e.State != "started" || e.Phase != at.phase {
				continue
			}
			if n == at.operation && !reached {
				reached = true
				cut(kill)
			}
			n++
		}
	})
	if !reached || err == nil {
		k.Fatalf("the restore was not cut off at %s: %v\n%s", at, err, stderr.String())
	}
	if !k.node.Running() {
		return run{}
	}
	// What was killed may have left it behind.
	k.shell("while pgrep -x systemctl >/dev/null; do sleep 0.05; done")
	r := k.openRun()
	if r.ID == "" {
		k.Fatalf("no run is open after a restore was killed at %s: %+v", at, k.lastRun())
	}
	k.Logf("it stopped in %s, at: %s", r.Phase, r.Operation)
	return r
}
