package workflows

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// moment is an instant of a run, told by the events that it writes.
type moment struct {
	operation int           // counted from 1, as they are started
	state     string        // of the event that is waited for: started, finished
	after     time.Duration // that passes since the event
}

func (m moment) String() string {
	if m.after > 0 {
		return fmt.Sprintf("%v after operation %d %s", m.after, m.operation, m.state)
	}
	return fmt.Sprintf("when operation %d %s", m.operation, m.state)
}

// event is one line of `-o json`.
type event struct{ Run, Phase, Operation, State, Error string }

// interrupt runs etcdpod and ends it at the moment, in the way of end. It returns false when the command ended first.
func (n *node) interrupt(at moment, end func(*os.Process) error, args ...string) bool {
	n.t.Helper()
	operation := 0
	return n.interruptWhen(func(e event) bool {
		if e.State == "started" {
			operation++
		}
		if operation < at.operation || e.State != at.state {
			return false
		}
		time.Sleep(at.after)
		return true
	}, end, args...)
}

// interruptWhen runs etcdpod and ends it at the event for which the condition holds.
func (n *node) interruptWhen(now func(event) bool, end func(*os.Process) error, args ...string) bool {
	n.t.Helper()
	cmd, err := n.EtcdpodCommand(n.ctx, append(args, "-o", "json")...)
	must(n.t, err)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	must(n.t, err)
	must(n.t, cmd.Start())
	ended := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			n.t.Errorf("%q is no event: %v", lines.Text(), err)
		}
		if !ended && now(e) {
			ended = true
			must(n.t, end(cmd.Process))
		}
	}
	err = cmd.Wait()
	if _, exited := err.(*exec.ExitError); err != nil && (!exited || !ended) {
		n.t.Fatalf("%q ended with %v before it was interrupted: %s", args, err, stderr.String())
	}
	return ended && cmd.ProcessState.ExitCode() == -1
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
