package workflows

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/e2e/leash"
	"github.com/etcdpod/etcdpod/e2e/schema"
)

// moment is an instant of a run, told by the events that it writes. The run is on a leash, and goes
// no further than the next event: at one that an operation has finished it waits for what comes,
// before the next operation; at one that an operation is started it waits at the end of that
// operation at the latest, when it is journaled as finished and not yet told.
type moment struct {
	operation int           // counted from 1, as they are started
	state     string        // of the event that is waited for: started, finished
	after     time.Duration // for which the operation goes on, unless it is over and waits
}

func (m moment) String() string {
	if m.after > 0 {
		return fmt.Sprintf("%v after operation %d %s", m.after, m.operation, m.state)
	}
	return fmt.Sprintf("when operation %d %s", m.operation, m.state)
}

// event is one line of `-o json`.
type event struct{ Run, Phase, Operation, State, Error string }

// killAt runs etcdpod and kills it at the moment.
func (n *node) killAt(at moment, args ...string) {
	n.t.Helper()
	operation := 0
	if !n.interruptWhen(func(e event) bool {
		if e.State == "started" {
			operation++
		}
		if operation < at.operation || e.State != at.state {
			return false
		}
		time.Sleep(at.after)
		return true
	}, (*os.Process).Kill, args...) {
		n.t.Fatalf("%q has only %d operations, and was to be killed %v", args, operation, at)
	}
}

// killWhen runs etcdpod and kills it at the first event for which the condition holds.
func (n *node) killWhen(now func(event) bool, args ...string) {
	n.t.Helper()
	if !n.interruptWhen(now, (*os.Process).Kill, args...) {
		n.t.Fatalf("%q ended before it was to be killed", args)
	}
}

// interruptWhen runs etcdpod and ends it at the first event for which the condition holds, before
// it can write another one. It returns false when the command ended by itself.
func (n *node) interruptWhen(now func(event) bool, end func(*os.Process) error, args ...string) bool {
	n.t.Helper()
	cmd, err := n.EtcdpodCommand(n.ctx, append(args, "-o", "json")...)
	must(n.t, err)
	var stdout, stderr strings.Builder
	cmd.Stderr = &stderr
	ended := false
	err = leash.Run(cmd, &cmd.Stdout, func(line string) {
		stdout.WriteString(line + "\n")
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			n.t.Errorf("%q is no event: %v", line, err)
		}
		if !ended && now(e) {
			ended = true
			must(n.t, end(cmd.Process))
		}
	})
	if _, exited := err.(*exec.ExitError); err != nil && (!exited || !ended) {
		n.t.Fatalf("%q ended with %v before it was interrupted: %s", args, err, stderr.String())
	}
	must(n.t, n.AwaitCommands(n.ctx))
	must(n.t, schema.Check(cmd.Args, stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()))
	return ended && cmd.ProcessState.ExitCode() == -1
}

// signal sends a signal to a process, and returns when that has dealt with it: when none of its
// threads has anything left to do. On a leash it comes to that.
func (n *node) signal(s os.Signal) func(*os.Process) error {
	return func(p *os.Process) error {
		err := p.Signal(s)
		n.eventually("the process waits", func() bool { return sleeps(p.Pid) })
		return err
	}
}

// sleeps tells whether all threads of a process do; proc_pid_stat(5) has the state after the name.
func sleeps(pid int) bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, file := range stats {
		stat, failed := os.ReadFile(file)
		_, state, found := strings.Cut(string(stat), ") ")
		if failed != nil || !found || !strings.HasPrefix(state, "S") {
			return false
		}
	}
	return err == nil && len(stats) > 0
}

// open returns the run that a kill has left open.
func (n *node) open() runSummary {
	n.t.Helper()
	run := n.lastRun()
	if run.State != "open" {
		n.t.Fatalf("after a kill the run is %+v", run)
	}
	return run
}

// endings are the states in which a run is, when it is not open any more, by the command that ended
// it.
var endings = map[string]string{"resume": "completed", "rollback": "rolled back"}

// wantEnding holds the last run to be one that the command has ended.
func (n *node) wantEnding(command string) {
	n.t.Helper()
	if run := n.lastRun(); run.State != endings[command] {
		n.t.Errorf("after %s the run is %+v", command, run)
	}
}

// operations counts those that a restore would carry out.
func (n *node) operations(args ...string) []string {
	n.t.Helper()
	var plan struct {
		Phases []struct{ Operations []string }
	}
	n.lastLine(n.done(append(args, "--dry-run", "-o", "json")...), &plan)
	var all []string
	for _, p := range plan.Phases {
		all = append(all, p.Operations...)
	}
	return all
}
